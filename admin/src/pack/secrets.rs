//! Recognises files that a module must not publish, by their name and by their content.

/// Names of files and folders that are never part of a module.
const LOCAL_NAMES: [&str; 5] = [".git", ".terraform", ".terragrunt-cache", ".venv", "node_modules"];

/// Endings that editors and people add to the name of a copy.
const COPY_ENDINGS: [&str; 8] = ["~", ".bak", ".backup", ".old", ".orig", ".save", ".swp", ".swo"];

/// Endings of files that Terraform reads as part of a module.
const MODULE_ENDINGS: [&str; 4] = [".tf", ".tf.json", ".tofu", ".tofu.json"];

/// Formats in which people save a plan.
const PLAN_FORMATS: [&str; 6] = [".json", ".txt", ".out", ".log", ".bin", ".binary"];

const KEY_NAMES: [&str; 7] =
    ["id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss"];

const KEY_ENDINGS: [&str; 5] = [".p12", ".pfx", ".jks", ".keystore", ".ppk"];

const TOKEN_NAMES: [&str; 7] =
    [".terraformrc", "terraform.rc", ".tofurc", "tofu.rc", "tofurc", ".netrc", ".git-credentials"];

const TOKEN_ENDINGS: [&str; 2] = [".tfrc", ".tfrc.json"];

/// The kinds of secrets for which the program refuses a file.
const PRIVATE_KEY: &str = "private key";
const CLI_TOKENS: &str = "CLI configuration with tokens";

/// What the program does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pack,
    Skip,
    /// The file is a secret of this kind, so the program packs nothing.
    Refuse(&'static str),
}

/// Returns whether a file or folder of this name does not belong to the module.
pub(super) fn is_local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    LOCAL_NAMES.contains(&name.as_str()) || name.starts_with(".env")
}

/// Judges a file by its name, without a folder. A copy such as `id_rsa.bak` counts as its original.
pub(super) fn of_name(name: &str) -> Verdict {
    let name = name.to_ascii_lowercase();
    if MODULE_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        return Verdict::Pack;
    }
    if is_local(&name) || name.contains(".tfstate") {
        return Verdict::Skip;
    }
    let name = COPY_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let ends_with_one_of = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let variables = ends_with_one_of(&[".tfvars", ".tfvars.json"]);
    let crash_log =
        name.strip_prefix("crash.").is_some_and(|rest| rest == "log" || rest.ends_with(".log"));
    if variables || crash_log || is_plan(name) {
        return Verdict::Skip;
    }
    if KEY_NAMES.contains(&name.trim_start_matches('.')) || ends_with_one_of(&KEY_ENDINGS) {
        return Verdict::Refuse(PRIVATE_KEY);
    }
    if TOKEN_NAMES.contains(&name) || name == "_netrc" || ends_with_one_of(&TOKEN_ENDINGS) {
        return Verdict::Refuse(CLI_TOKENS);
    }
    Verdict::Pack
}

/// Returns whether a file has a name that people give to the output of `terraform plan`.
fn is_plan(name: &str) -> bool {
    let is_tfplan = |name: &str| name == "tfplan" || name.ends_with(".tfplan");
    name == "plan.out"
        || name.ends_with(".plan")
        || is_tfplan(name)
        || PLAN_FORMATS.iter().filter_map(|format| name.strip_suffix(format)).any(is_tfplan)
}

/// Judges a file by its content: a plan, a state or a private key, whatever its name is.
pub(super) fn of_content(content: &[u8]) -> Verdict {
    // Windows PowerShell writes UTF-16, in which each second byte of ASCII is zero.
    let without_zeros: Vec<u8>;
    let content = if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        without_zeros = content.iter().skip(2).copied().filter(|byte| *byte != 0).collect();
        &without_zeros[..]
    } else {
        content
    };
    if is_plan_archive(content) || is_state_or_plan_in_json(content) {
        return Verdict::Skip;
    }
    if content.starts_with(b"PuTTY-User-Key-File-") || has_private_key(content) {
        return Verdict::Refuse(PRIVATE_KEY);
    }
    Verdict::Pack
}

/// Returns whether a file is the output of `terraform plan -out`: a zip archive whose first entry
/// is `tfplan`.
fn is_plan_archive(content: &[u8]) -> bool {
    content.starts_with(b"PK\x03\x04")
        && content.get(26..28) == Some(&[6, 0][..])
        && content.get(30..36) == Some(&b"tfplan"[..])
}

/// Returns whether a file is state, or the output of `terraform show -json`.
fn is_state_or_plan_in_json(content: &[u8]) -> bool {
    let head = &content[..content.len().min(512)];
    let has = |name: &[u8]| find(head, name).is_some();
    head.trim_ascii_start().starts_with(b"{")
        && has(b"\"terraform_version\"")
        && (has(b"\"format_version\"") || has(b"\"serial\"") && has(b"\"lineage\""))
}

/// Returns whether a file contains a private key in PEM form (RFC 7468), also inside of JSON.
///
/// A sentence or an expression that only names the first line of a key is not a key.
fn has_private_key(content: &[u8]) -> bool {
    let mut rest = content;
    while let Some(at) = find(rest, b"-----BEGIN ") {
        rest = &rest[at + b"-----BEGIN ".len()..];
        let Some(end) = find(&rest[..rest.len().min(64)], b"-----") else { continue };
        let (label, after) = (&rest[..end], &rest[end + b"-----".len()..]);
        let is_label = label.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ')
            && (label.ends_with(b"PRIVATE KEY") || label == b"PGP PRIVATE KEY BLOCK");
        if is_label && begins_key(after) {
            return true;
        }
    }
    false
}

/// Returns whether a key can follow its first line: the line ends, and no placeholder such as `...`
/// follows. A line end can be escaped, as in JSON.
fn begins_key(after: &[u8]) -> bool {
    let escaped: [&[u8]; 4] = [b"\\n", b"\\r", b"\\\\n", b"\\\\r"];
    let mut data = after.trim_ascii_start();
    let mut is_line = after[..after.len() - data.len()].contains(&b'\n');
    while let Some(next) = escaped.iter().find_map(|end| data.strip_prefix(*end)) {
        (data, is_line) = (next.trim_ascii_start(), true);
    }
    let is_placeholder = matches!(data.first(), Some(b'.' | b'<' | b'$' | b'[' | b'{' | b'*'));
    (is_line || data.is_empty()) && !is_placeholder
}

/// Returns the position of the first occurrence.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].iter().position(|byte| *byte == wanted[0])?;
        if text[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0BAQEFAASC\n";

    #[test]
    fn a_private_key_and_a_configuration_with_tokens_are_refused_by_name() {
        for name in [
            "id_rsa",
            "ID_RSA",
            "id_ed25519",
            "id_ecdsa_sk",
            "id_rsa.bak",
            ".id_rsa.swp",
            "key.p12",
            "Key.PFX",
            "store.jks",
            "putty.ppk",
        ] {
            assert_eq!(of_name(name), Verdict::Refuse(PRIVATE_KEY), "{name}");
        }
        for name in [
            ".terraformrc",
            "terraform.rc",
            "credentials.tfrc.json",
            "dev.tfrc",
            ".tofurc",
            ".terraformrc~",
            ".netrc",
            "_netrc",
            ".git-credentials",
        ] {
            assert_eq!(of_name(name), Verdict::Refuse(CLI_TOKENS), "{name}");
        }
    }

    #[test]
    fn local_files_are_skipped_by_name() {
        for name in [
            "terraform.tfstate",
            "a.tfstate.backup",
            ".terraform.tfstate.lock.info",
            "terraform.tfvars",
            "prod.auto.tfvars",
            "terraform.tfvars.json",
            "PROD.TFVARS",
            "prod.tfvars.bak",
            "prod.tfvars~",
            ".tfvars",
            ".env",
            ".env.local",
            ".envrc",
            "crash.log",
            "crash.2026-11-28.log",
            "tfplan",
            "prod.tfplan",
            "tfplan.json",
            "prod.tfplan.txt",
            "plan.out",
            "prod.plan",
            ".git",
            ".terraform",
            ".venv",
            "node_modules",
        ] {
            assert_eq!(of_name(name), Verdict::Skip, "{name}");
        }
    }

    #[test]
    fn files_of_a_module_are_packed() {
        for name in [
            "main.tf",
            "tfplan.tf",
            "credentials.tf.json",
            "main.tofu",
            "terraform.tfvars.example",
            "terraform.tfvars.json.example",
            "README.md",
            "id_rsa.pub",
            "my_id_rsa_policy.json",
            "environment.json",
            ".terraform.lock.hcl",
            ".terraform-docs.yml",
            ".terraformignore",
            ".gitignore",
            "crash.md",
            "crashlog",
            "plan.md",
            "plan.json",
            "ca.pem",
            "public.key",
            "package.json",
        ] {
            assert_eq!(of_name(name), Verdict::Pack, "{name}");
        }
    }

    #[test]
    fn a_private_key_is_refused_by_its_content() {
        let utf_16: Vec<u8> = KEY.bytes().flat_map(|byte| [byte, 0]).collect();
        let json = serde_json::json!({ "private_key": KEY, "type": "service_account" }).to_string();
        for content in [
            KEY.as_bytes(),
            b"-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n",
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n",
            b"-----BEGIN EC PRIVATE KEY-----\n\nMHcCAQEE\n",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF\n",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n",
            b"-----BEGIN CERTIFICATE-----\nMIID\n-----BEGIN PRIVATE KEY-----\nMII\n",
            b"locals {\n  key = <<-EOT\n    -----BEGIN PRIVATE KEY-----\n    MIIE\n",
            b"key = \"-----BEGIN PRIVATE KEY-----\\nMIIE\\n\"",
            b"-----BEGIN PRIVATE KEY-----",
            b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
            b"PuTTY-User-Key-File-3: ssh-ed25519\n",
            &[&[0xff, 0xfe][..], &utf_16[..]].concat(),
            json.as_bytes(),
            format!("'{}'", json.replace("\\n", "\\\\n")).as_bytes(),
        ] {
            let text = String::from_utf8_lossy(content);
            assert_eq!(of_content(content), Verdict::Refuse(PRIVATE_KEY), "{text}");
        }
    }

    #[test]
    fn a_plan_and_state_are_skipped_by_their_content() {
        let mut plan = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        plan.start_file("tfplan", zip::write::SimpleFileOptions::default()).unwrap();
        let plan = plan.finish().unwrap().into_inner();
        for content in [
            &plan[..],
            br#"{"format_version":"1.2","terraform_version":"1.11.4","planned_values":{}}"#,
            b"{\n  \"version\": 4, \"terraform_version\": \"1.11.4\", \"serial\": 1, \"lineage\": \"\"",
        ] {
            let text = String::from_utf8_lossy(content);
            assert_eq!(of_content(content), Verdict::Skip, "{text}");
        }
    }

    #[test]
    fn a_text_about_keys_or_plans_is_packed() {
        let other = zip_of_a_function();
        for content in [
            &b""[..],
            b"-----BEGIN PUBLIC KEY-----\nMIIB\n",
            b"-----BEGIN CERTIFICATE-----\nMIID\n",
            b"condition = startswith(var.key, \"-----BEGIN PRIVATE KEY-----\")\n",
            b"can(regex(\"-----BEGIN (RSA )?PRIVATE KEY-----\\\\n\", var.key))\n",
            b"A file that begins with `-----BEGIN PRIVATE KEY-----` is a key.\n",
            b"-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\n<your key>\n",
            b"-----BEGIN PRIVATE KEY-----\n    ${var.key}\n",
            b"key = \"-----BEGIN PRIVATE KEY-----\\n...\"",
            b"-----BEGIN private key-----\nMIIB\n",
            b"-----BEGIN ",
            br#"{"terraform_version":"1.11.4"}"#,
            br#"{"format_version":"1.0","provider_schemas":{}}"#,
            &other,
        ] {
            let text = String::from_utf8_lossy(content);
            assert_eq!(of_content(content), Verdict::Pack, "{text}");
        }
    }

    /// Returns a zip archive that is not a plan.
    fn zip_of_a_function() -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("lambda", zip::write::SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap().into_inner()
    }
}
