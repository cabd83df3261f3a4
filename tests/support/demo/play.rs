//! Plays the steps of the demo, in order.

use std::path::{Path, PathBuf};

use super::show::{End, Failed, Show, Typed, say, short};
use super::stage::{Stage, failed};
use super::{Sts, refusals, requests};
use crate::process::home::{CommandOutput, Home};
use crate::process::programs::{ADMIN, BROKER, Broker, HELPER, program, workspace};
use crate::skipped::tool;
use crate::sts::identity::Identity;

/// The module that the demo publishes and installs.
pub(super) const MODULE: &str = "acme/tags/aws";
pub(super) const VERSION: &str = "1.0.0";

/// The source of the module.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/module");

/// What Terraform prints when it succeeds.
const INITIALIZED: &str = "Terraform has been successfully initialized!";

/// A person at a terminal.
pub(super) struct Actor {
    /// The name in front of the prompt.
    pub(super) name: &'static str,
    /// The home and environment of the person's commands.
    pub(super) home: Home,
}

/// The running demo: the stage, the person who installs, and the broker.
pub(super) struct Play {
    pub(super) show: Show,
    pub(super) stage: Stage,
    pub(super) broker: Broker,
    pub(super) deploy: Actor,
    /// The throw-away keys of `deploy`; `None` with the caller's own keys.
    pub(super) keys: Option<Identity>,
    pub(super) terraform: Option<PathBuf>,
}

impl Play {
    /// Plays all steps. The broker keeps running.
    pub(super) async fn from_beginning(sts: Sts) -> Result<Self, Failed> {
        say(
            "Stile: a private Terraform registry with AWS identities, on this machine from end to end.\n\n",
        );
        say("building the three programs…\n");
        for name in [BROKER, HELPER, ADMIN] {
            program(name);
        }
        let mut show = Show::default();
        let stage = Stage::set(&mut show, sts)?;
        let operator = Actor { name: "operator", home: Home::at(stage.folder.join("home")) };
        let (publisher, deploy, keys) = match sts {
            Sts::Local => {
                let (deploy, keys) = stage.home_of("deploy");
                let publisher = Actor { name: "publisher", home: stage.home_of("publisher").0 };
                (publisher, Actor { name: "deploy", home: deploy }, Some(keys))
            }
            Sts::Aws => {
                let you = || Ok(Actor { name: "you", home: stage.home_of_caller()? });
                (you()?, you()?, None)
            }
        };

        make_store(&mut show, &stage, &operator).await?;
        if sts == Sts::Local {
            show.step("The operator grants: `publisher` may upload, `deploy` may download, and `intern` gets nothing");
            for (role, permission) in [("publisher", "--upload"), ("deploy", "--download")] {
                let arn = format!("arn:aws:iam::111122223333:role/{role}");
                grant(&show, &stage, &operator, &["--role-arn", &arn], &[permission]).await?;
            }
        }
        let broker = serve(&mut show, &stage, &deploy).await;
        let mut play = Self { show, stage, broker, deploy, keys, terraform: tool("terraform") };
        play.install_helper().await?;
        if sts == Sts::Aws {
            refusals::before_the_grant(&mut play, &operator).await?;
        }
        play.publish(&publisher).await?;
        play.whoami().await?;
        play.install_module().await?;
        play.files()?;
        match sts {
            Sts::Local => refusals::after_all(&mut play).await?,
            Sts::Aws => play.show.note("(skipped: to send a proof twice, the demo needs throw-away keys, because it never reads yours)"),
        }
        Ok(play)
    }

    /// Terminates the broker.
    pub(super) async fn end(&mut self) {
        self.broker.terminate().await;
    }

    /// Runs a program as the person who installs, and shows it.
    pub(super) async fn deploy(
        &self,
        name: &str,
        arguments: &[&str],
        end: End,
    ) -> Result<CommandOutput, Failed> {
        self.show
            .run(&self.deploy.home, typed(self.deploy.name, &program(name), arguments), end)
            .await
    }

    async fn install_helper(&mut self) -> Result<(), Failed> {
        self.show.step("`install` sets the helper up for Terraform: two configuration files and a copy of the program");
        let rc = short(&self.stage.rc());
        self.deploy(
            HELPER,
            &["install", "--registry-host", &self.stage.host(), "--rc-file", &rc],
            End::Done,
        )
        .await?;
        Ok(())
    }

    async fn publish(&mut self, publisher: &Actor) -> Result<(), Failed> {
        self.show.step("A module is published from its folder, with a token for `upload` on its namespace only");
        let (source, host) = (short(Path::new(SOURCE)), self.stage.host());
        let arguments = ["module", "publish", MODULE, VERSION, &source, "--registry-host", &host];
        self.show
            .run(&publisher.home, typed(publisher.name, &program(ADMIN), &arguments), End::Done)
            .await?;
        Ok(())
    }

    async fn whoami(&mut self) -> Result<(), Failed> {
        self.show
            .step("The helper signs a proof with the AWS keys, the broker sends it to STS, and mints a token for this principal");
        self.deploy(HELPER, &["whoami", &self.stage.host()], End::Done).await?;
        Ok(())
    }

    async fn install_module(&mut self) -> Result<(), Failed> {
        let folder = self.stage.configuration();
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        let main = folder.join("main.tf");
        let text = format!(
            "module \"tags\" {{\n  source      = \"{}/{MODULE}\"\n  version     = \"{VERSION}\"\n  environment = \"demo\"\n}}\n",
            self.stage.host()
        );
        std::fs::write(&main, &text).map_err(|error| failed(&main, &error))?;
        let Some(terraform) = &self.terraform else { return requests::install(self).await };
        self.show
            .step("Terraform installs the module: it gets a token from the helper and the module from the registry, and checks the archive");
        self.show.note(&format!("{}:\n{text}", short(&main)));
        let folder_flag = format!("-chdir={}", short(&folder));
        let arguments = [folder_flag.as_str(), "init", "-no-color", "-input=false"];
        let ran = self
            .show
            .run(&self.deploy.home, typed(self.deploy.name, terraform, &arguments), End::Done)
            .await?;
        if ran.stdout.contains(INITIALIZED) {
            Ok(())
        } else {
            Err(Failed::new(format!("Terraform did not print `{INITIALIZED}`")))
        }
    }

    fn files(&mut self) -> Result<(), Failed> {
        self.show.step("The installed files of the module are the published files, byte for byte");
        let installed = self.stage.configuration().join(".terraform/modules/tags");
        for name in ["README.md", "main.tf"] {
            let file = installed.join(name);
            let same = std::fs::read(&file).is_ok_and(|there| {
                std::fs::read(Path::new(SOURCE).join(name)).is_ok_and(|here| here == there)
            });
            if !same {
                return Err(Failed::new(format!(
                    "`{}` differs from the published file",
                    short(&file)
                )));
            }
            self.show.note(&short(&file));
        }
        Ok(())
    }
}

/// Creates a grant as the operator.
pub(super) async fn grant(
    show: &Show,
    stage: &Stage,
    operator: &Actor,
    whom: &[&str],
    what: &[&str],
) -> Result<(), Failed> {
    let data = short(&stage.data());
    let arguments: Vec<_> =
        [&["grant", "create", "--data", &data][..], whom, &["--namespace", "acme"], what].concat();
    show.run(&operator.home, typed(operator.name, &program(ADMIN), &arguments), End::Done).await?;
    Ok(())
}

/// Returns a command that runs in the folder of the workspace.
pub(super) fn typed<'a>(who: &'a str, program: &'a Path, arguments: &'a [&'a str]) -> Typed<'a> {
    Typed { who, program, arguments, folder: workspace() }
}

async fn make_store(show: &mut Show, stage: &Stage, operator: &Actor) -> Result<(), Failed> {
    show.step("An operator creates the store: a folder with a database. The broker never does, so a mistyped path is an error");
    let data = short(&stage.data());
    show.run(
        &operator.home,
        typed(operator.name, &program(ADMIN), &["store", "init", "--data", &data]),
        End::Done,
    )
    .await?;
    Ok(())
}

async fn serve(show: &mut Show, stage: &Stage, deploy: &Actor) -> Broker {
    show.step("The broker starts: registry and token service in one program, over TLS");
    let (host, data, cert, key) =
        (stage.host(), short(&stage.data()), short(&stage.files.cert), short(&stage.files.key));
    let sts = stage
        .sts
        .as_ref()
        .map(|sts| format!(" --sts-endpoint {}", sts.endpoint()))
        .unwrap_or_default();
    show.note(&format!("operator$ stile-broker serve --host {host} --listen {host} --data {data} --tls-cert {cert} --tls-key {key}{sts}"));
    let broker = stage.serve(stage.sts.is_none().then_some(&deploy.home)).await;
    for line in broker.log().lines().filter(|line| !line.contains("/healthz")) {
        show.note(line);
    }
    broker
}
