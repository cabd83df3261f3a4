//! Recognises files that a module must not publish, by their name and by their content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Names of files and folders that are never part of a module.
const LOCAL_NAMES: [&str; 5] = [".git", ".terraform", ".terragrunt-cache", ".venv", "node_modules"];

/// Endings that editors and people add to the name of a copy.
const COPY_ENDINGS: [&str; 8] = ["~", ".bak", ".backup", ".old", ".orig", ".save", ".swp", ".swo"];

/// Endings of examples and templates of variable files, which belong to the module.
const EXAMPLE_ENDINGS: [&str; 6] = [".example", ".sample", ".dist", ".tpl", ".tftpl", ".md"];

/// Endings of templates and of pages, which belong to the module whatever they are about.
const TEMPLATE_ENDINGS: [&str; 3] = [".tpl", ".tftpl", ".md"];

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

/// Headers that can stand between the first line of a key and its data (RFC 1421, RFC 9580).
const KEY_HEADERS: [&[u8]; 5] =
    [b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:", b"Charset:"];

/// The fewest characters of base64 that count as a line of a key. A placeholder is shorter.
const SHORTEST_KEY_LINE: usize = 32;

/// The beginning of a key of `age`.
const AGE_KEY: &[u8] = b"AGE-SECRET-KEY-1";

/// The base64 of `-----BEGIN ` without its last two bits.
const ENCODED_BEGIN: &[u8] = b"LS0tLS1CRUdJTi";

/// The most characters of base64 that the program decodes to find the begin of a key.
const MAX_ENCODED_LEN: usize = 1_024;

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
    LOCAL_NAMES.contains(&name.as_str()) || name.starts_with(".env") && !is_template(&name)
}

/// Returns whether a file of this name is a template or a page. The name is in lower case.
fn is_template(name: &str) -> bool {
    TEMPLATE_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Judges a file by its name, without a folder. A copy such as `id_rsa.bak` counts as its original.
pub(super) fn of_name(name: &str) -> Verdict {
    let name = name.to_ascii_lowercase();
    if MODULE_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        return Verdict::Pack;
    }
    if is_local(&name) || name.contains(".tfstate") && !is_template(&name) {
        return Verdict::Skip;
    }
    let name = COPY_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let ends_with_one_of = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    // Also copies, such as `prod.tfvars.local` and `#prod.tfvars#`.
    let variables = name.contains(".tfvars") && !ends_with_one_of(&EXAMPLE_ENDINGS);
    let crash_log = name.starts_with("crash.log")
        || name.strip_prefix("crash.").is_some_and(|rest| rest.ends_with(".log"));
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
    if is_plan_archive(content) {
        return Verdict::Skip;
    }
    // Windows PowerShell writes UTF-16, in which each second byte of ASCII is zero, or UTF-8 with a
    // byte order mark.
    let without_zeros: Vec<u8>;
    let head = &content[..content.len().min(64)];
    let zeros = head.iter().filter(|byte| **byte == 0).count();
    let content = if content.starts_with(&[0xff, 0xfe])
        || content.starts_with(&[0xfe, 0xff])
        || zeros * 4 >= head.len().max(1)
    {
        let text = content.iter().copied();
        without_zeros = text.filter(|byte| !matches!(*byte, 0 | 0xfe | 0xff)).collect();
        &without_zeros[..]
    } else {
        content.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(content)
    };
    if is_state_or_plan_in_json(content) {
        return Verdict::Skip;
    }
    if content.starts_with(b"PuTTY-User-Key-File-")
        || find(content, AGE_KEY).is_some_and(|at| begins_key(&content[at + AGE_KEY.len()..]))
        || has_private_key(content)
        || has_encoded_private_key(content)
        || is_private_key_in_der(content)
    {
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
    // Tools that sort the names of an object put these names behind all resources.
    let has = |name: &[u8]| find(content, name).is_some();
    head.trim_ascii_start().starts_with(b"{")
        && has(b"\"terraform_version\"")
        && (find(head, b"\"format_version\"").is_some()
            || has(b"\"serial\"") && has(b"\"lineage\""))
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

/// Returns whether a file contains the base64 of a private key in PEM form, as a Kubernetes secret
/// does.
fn has_encoded_private_key(content: &[u8]) -> bool {
    let mut rest = content;
    while let Some(at) = find(rest, ENCODED_BEGIN) {
        rest = &rest[at..];
        let is_text = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let length = rest.iter().take(MAX_ENCODED_LEN).take_while(is_text).count();
        // Without padding, the last characters stand for no whole byte.
        let decoded = STANDARD.decode(&rest[..length / 4 * 4]).unwrap_or_default();
        if has_private_key(&decoded) {
            return true;
        }
        rest = &rest[ENCODED_BEGIN.len()..];
    }
    false
}

/// Returns whether a file is a private key in DER form: PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) or SEC 1
/// (RFC 5915).
///
/// All three are one sequence that fills the file, and begin with a small number, their version.
fn is_private_key_in_der(content: &[u8]) -> bool {
    let Some(body) = der_sequence(content) else { return false };
    match body {
        // A sequence names the algorithm, by an object identifier (PKCS #8).
        [0x02, 0x01, 0x00 | 0x01, 0x30, length, 0x06, ..] => *length < 0x80,
        // The modulus is a number of at least 64 bytes (PKCS #1).
        [0x02, 0x01, 0x00 | 0x01, 0x02, 0x40..=0x7f, ..]
        | [0x02, 0x01, 0x00 | 0x01, 0x02, 0x81 | 0x82, ..] => true,
        // The key is a string of as many bytes as the field of the curve has (SEC 1).
        [0x02, 0x01, 0x01, 0x04, length, ..] => matches!(length, 28 | 32 | 48 | 66),
        _ => false,
    }
}

/// Returns the content of a DER sequence that fills the file.
fn der_sequence(content: &[u8]) -> Option<&[u8]> {
    let (length, body) = match content {
        [0x30, 0x81, length, body @ ..] => (usize::from(*length), body),
        [0x30, 0x82, high, low, body @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), body)
        }
        [0x30, length @ 0..=0x7f, body @ ..] => (usize::from(*length), body),
        _ => return None,
    };
    (body.len() == length).then_some(body)
}

/// Returns whether a key follows its first line, and not a placeholder or an expression.
///
/// Between them can be anything that separates lines: line ends, also escaped as in JSON, blanks, and
/// the quotes and commas of a list.
fn begins_key(after: &[u8]) -> bool {
    let mut body = &after[..after.len().min(400)];
    loop {
        body = match body {
            [b'\\', b'\\', b'n' | b'r' | b't', rest @ ..]
            | [b'\\', b'n' | b'r' | b't', rest @ ..] => rest,
            [first, rest @ ..] if first.is_ascii_whitespace() || b"\"',\\#>|".contains(first) => {
                rest
            }
            _ => break,
        };
    }
    let base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    KEY_HEADERS.iter().any(|header| body.starts_with(header))
        || body.iter().take_while(base64).count() >= SHORTEST_KEY_LINE
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

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n";

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
            ".env.tftpl",
            ".env.tpl",
            "terraform.tfstate.md",
            "state.tfstate.tftpl",
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
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n",
            b"-----BEGIN EC PRIVATE KEY-----\n\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6\n",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHDBOBgkqhkiG9w0BBQ0wQTApBgkqhkiG9w0B\n",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n",
            KEY.replace('\n', "\r").as_bytes(),
            KEY.replace('\n', " ").as_bytes(),
            KEY.replace('\n', "").as_bytes(),
            KEY.replace('\n', "\\n").as_bytes(),
            KEY.replace('\n', "\",\n    \"").as_bytes(),
            format!("-----BEGIN CERTIFICATE-----\nMIID\n{KEY}").as_bytes(),
            format!("locals {{\n  key = <<-EOT\n{}", KEY.replace('\n', "\n    ")).as_bytes(),
            &utf_16,
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
    fn a_private_key_in_another_encoding_is_refused_by_its_content() {
        let encoded = STANDARD.encode(KEY);
        let length = |body: &[u8]| u8::try_from(body.len()).unwrap();
        let sequence = |body: &[u8]| [&[0x30, 0x81, length(body)], body].concat();
        let pkcs_8 = [&[0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70][..], &[4; 40]];
        let pkcs_1 = [&[0x02, 0x01, 0x00, 0x02, 0x41, 0x00][..], &[7; 100]].concat();
        let sec_1 = [&[0x02, 0x01, 0x01, 0x04, 0x20][..], &[7; 40]].concat();
        for content in [
            format!("# created: 2026-11-29\nAGE-SECRET-KEY-1{}\n", "Q".repeat(58)).as_bytes(),
            encoded.as_bytes(),
            format!("data:\n  tls.key: {encoded}\n").as_bytes(),
            format!("key = \"{}\"", STANDARD.encode(KEY.replace('\n', "\r\n"))).as_bytes(),
            &sequence(&pkcs_8.concat()),
            &sequence(&pkcs_1),
            &sequence(&sec_1),
        ] {
            let text = String::from_utf8_lossy(content);
            assert_eq!(of_content(content), Verdict::Refuse(PRIVATE_KEY), "{text}");
        }
        for content in [
            "write AGE-SECRET-KEY-1... into this file",
            "LS0tLS1CRUdJTi is how the base64 of a key begins",
            &STANDARD.encode("-----BEGIN CERTIFICATE-----\nMIIDazCCAlOgAwIBAgIUJ5mJ0Yt2mVvJ\n"),
            "0\u{5}\u{2}\u{1}\u{0}\u{5}\u{0}",
        ] {
            assert_eq!(of_content(content.as_bytes()), Verdict::Pack, "{content}");
        }
        // The same bytes inside of a longer file, such as a certificate, are no key.
        let longer = [&sequence(&pkcs_1)[..], b"\n"].concat();
        assert_eq!(of_content(&longer), Verdict::Pack);
    }

    #[test]
    fn a_plan_and_state_are_skipped_by_their_content() {
        let mut plan = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        plan.start_file("tfplan", zip::write::SimpleFileOptions::default()).unwrap();
        let plan = plan.finish().unwrap().into_inner();
        for content in [
            &plan[..],
            br#"{"format_version":"1.2","terraform_version":"1.11.4","planned_values":{}}"#,
            b"\xef\xbb\xbf{\"version\": 4, \"terraform_version\": \"1.11.4\", \"serial\": 1, \"lineage\": \"\"",
            format!(
                r#"{{"lineage": "a", "outputs": "{}", "serial": 1, "terraform_version": "1.11.4"}}"#,
                "x".repeat(700)
            )
            .as_bytes(),
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
            b"-----BEGIN PRIVATE KEY-----\n%{ for line in lines }${line}\n",
            b"format(\"-----BEGIN RSA PRIVATE KEY-----\\n%s\\n-----END RSA PRIVATE KEY-----\", var.body)",
            b"replace(var.key, \"-----BEGIN RSA PRIVATE KEY-----\\n\", \"\")\n",
            b"begins with\n\n    -----BEGIN PRIVATE KEY-----\n\nand ends with the last line\n",
            b"-----BEGIN RSA PRIVATE KEY-----\nYOUR KEY HERE\n",
            b"-----BEGIN PRIVATE KEY-----",
            b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
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
