//! A data folder that other users can change, or that this user cannot open, and a file in it that
//! belongs to another user: no program opens it, and each one names the path and the cure.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::{HOST, make_data, role};
use stile_tests::permissions::{bound_by_permissions, is_root};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, BROKER, program};
use tempfile::TempDir;

/// The commands that open a data folder. Their last argument is the folder.
const COMMANDS: [(&str, &[&str]); 5] = [
    (BROKER, &["serve", "--listen", "127.0.0.1:0", "--host", HOST, "--data"]),
    (BROKER, &["check", "--host", HOST, "--data"]),
    (ADMIN, &["grant", "list", "--data"]),
    (ADMIN, &["store", "init", "--data"]),
    (ADMIN, &["store", "migrate", "--dry-run", "--data"]),
];

/// Creates a data folder with one grant.
async fn data_folder() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    make_data(data.path(), &role("deploy"), "acme", &[Download]).await;
    data
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Checks that every command refuses the data folder, and says all of this.
async fn all_refuse(data: &Path, expected: &[&str]) {
    all_refuse_under(&[], data, expected).await;
}

/// Checks the same for commands that another command runs.
async fn all_refuse_under(other: &[&str], data: &Path, expected: &[&str]) {
    for (name, arguments) in COMMANDS {
        let path = program(name);
        let run = [other, &[path.to_str().unwrap()], arguments, &[data.to_str().unwrap()]].concat();
        let ran = Home::temporary().run(Path::new(run[0]), &run[1..]).await;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(matches!(ran.code, Some(1 | 2)), "{name} {arguments:?}: {said}");
        for part in expected {
            assert!(said.contains(part), "{name} {arguments:?}: `{part}` is not in: {said}");
        }
    }
}

/// Runs the command that a program named as the cure, and checks that the data folder opens.
async fn cured_by(command: &str, data: &Path) {
    let mut words = command.split(' ');
    let cure = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(cure.success(), "{command}");
    let arguments = ["grant", "list", "--data", data.to_str().unwrap()];
    let ran = Home::temporary().run(&program(ADMIN), &arguments).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("acme"), "{command}: {ran:?}");
}

#[tokio::test]
async fn a_data_folder_that_others_can_write_to_is_opened_by_no_program() {
    let data = data_folder().await;
    for (part, mode) in [
        ("", 0o777),
        ("", 0o1777),
        ("", 0o775),
        ("archives", 0o757),
        ("incoming", 0o770),
        ("stile.sqlite3", 0o666),
        ("stile.sqlite3", 0o620),
        ("stile.sqlite3-wal", 0o602),
    ] {
        let path = data.path().join(part).components().collect::<PathBuf>();
        // SQLite deletes the log of the database when the last program closes it.
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        set_mode(&path, mode);
        let path = path.display();
        let problem = format!("users other than its owner can write to `{path}` (mode {mode:04o})");
        let cure = format!("chmod go-w {path}");
        all_refuse(data.path(), &[&problem, &format!("hint: run `{cure}`")]).await;
        cured_by(&cure, data.path()).await;
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_read_is_refused_as_permission_denied() {
    let Some(bound) = bound_by_permissions("a data folder that cannot be read") else { return };
    let bound: Vec<&str> = bound.iter().map(String::as_str).collect();
    let data = data_folder().await;
    let database = "stile.sqlite3";
    for (part, mode) in [("", 0o000), ("", 0o600), (database, 0o000), (database, 0o400)] {
        let path = data.path().join(part).components().collect::<PathBuf>();
        set_mode(&path, mode);
        let (path, user) = (path.display(), geteuid().as_raw());
        let problem = format!("permission denied: user {user} cannot open `{path}`");
        let cure = format!("chmod u+rwX {path}");
        let hint = format!("; hint: run `{cure}`");
        all_refuse_under(&bound, data.path(), &[problem.as_str(), hint.as_str()]).await;
        cured_by(&cure, data.path()).await;
    }
}

#[tokio::test]
async fn a_keyring_of_another_user_is_used_by_no_program() {
    if !is_root("a keyring that belongs to another user is refused") {
        return;
    }
    let data = data_folder().await;
    let keyring = data.path().join("keyring.json");
    for (mode, owner) in [(0o600, 12_345), (0o400, 1), (0o600, 65_534)] {
        fs::write(&keyring, "").unwrap();
        set_mode(&keyring, mode);
        chown(&keyring, Some(owner), None).unwrap();
        let problem = format!(
            "`{}` (mode {mode:04o}) belongs to user {owner}, not to user 0",
            keyring.display()
        );
        let cure = format!("chown 0 {}", keyring.display());
        all_refuse(data.path(), &[&problem, &format!("hint: run `{cure}`, and rotate the keys")])
            .await;
        cured_by(&cure, data.path()).await;
    }
    // Root administers the broker of the folder's owner, whose keyring it may read.
    chown(data.path(), Some(12_345), None).unwrap();
    cured_by(&format!("chown 12345 {}", keyring.display()), data.path()).await;
}

#[tokio::test]
async fn a_database_of_another_user_is_opened_by_no_program() {
    let what = "a database that belongs to another user is refused";
    let (true, Some(bound)) = (is_root(what), bound_by_permissions(what)) else { return };
    let bound: Vec<&str> = bound.iter().map(String::as_str).collect();
    let data = data_folder().await;
    for (file, mode, owner) in [
        ("stile.sqlite3", 0o600, 12_345),
        ("stile.sqlite3", 0o644, 1),
        ("stile.sqlite3-wal", 0o600, 65_534),
        ("stile.sqlite3-shm", 0o600, 12_345),
    ] {
        let path = data.path().join(file);
        // SQLite deletes the side files when the last program closes the database.
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        set_mode(&path, mode);
        chown(&path, Some(owner), None).unwrap();
        let shown = path.display();
        let problem = format!("`{shown}` (mode {mode:04o}) belongs to user {owner}, not to user 0");
        let cure = format!("chown 0 {shown}");
        let hint = format!("hint: run `{cure}`, and check its grants and modules");
        all_refuse(data.path(), &[&problem, &hint]).await;
        let denied = format!("user 0 cannot open `{shown}`, which belongs to user {owner}");
        all_refuse_under(&bound, data.path(), &[&denied]).await;
        cured_by(&cure, data.path()).await;
    }
    // Root administers the broker of the folder's owner, whose database it may open.
    chown(data.path(), Some(12_345), None).unwrap();
    cured_by(&format!("chown 12345 {}", data.path().join("stile.sqlite3").display()), data.path())
        .await;
}
