//! Lists the commands to paste into another terminal to try the demo by hand.

use super::play::Play;
use super::show::short;
use crate::process::programs::{ADMIN, program};

/// Returns the text with all commands.
pub(super) fn text(play: &Play) -> String {
    let (stage, host) = (&play.stage, play.stage.host());
    let programs =
        program(ADMIN).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let mut lines = vec![
        format!(
            "\nThe registry runs at https://{host} until Ctrl-C; its log is {}.",
            short(&stage.folder.join("broker.log"))
        ),
        "To try it by hand, paste this into a new terminal only: it changes HOME there.\n"
            .to_owned(),
        format!("  cd '{}'", stage.configuration().display()),
        format!("  export PATH='{programs}':\"$PATH\""),
    ];
    let mut names = vec!["HOME", "SSL_CERT_FILE", "TF_CLI_CONFIG_FILE"];
    if play.keys.is_some() {
        names.extend([
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
        ]);
    }
    for name in names {
        let value = play.deploy.home.value(name).unwrap_or_default();
        lines.push(format!("  export {name}='{}'", value.display()));
    }
    let data = stage.data();
    lines.extend([
        "\nThen, for example:\n".to_owned(),
        "  rm -rf .terraform && terraform init".to_owned(),
        format!("  terraform-credentials-stile doctor {host}"),
        format!("  stile-admin module list --registry-host {host}"),
        format!("  stile-admin grant list --data '{}'", data.display()),
        String::new(),
    ]);
    lines.join("\n")
}
