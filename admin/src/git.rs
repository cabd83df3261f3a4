//! Asks a repository for the commit of a tag or a branch, with the `git` of the user.

use std::io::{self, Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stile_core::package::source::{GitReference, ModuleSource};
use terraform_credentials_stile::message::one_line;

use crate::error::CommandError;

/// The longest time for an answer of a repository.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum length of an answer in bytes. It has at most three lines.
const MAX_ANSWER_LEN: u64 = 64 * 1024;

/// Maximum length of git's own message in an error, in characters.
const MAX_MESSAGE_LEN: usize = 300;

/// The ways in which git may reach a repository, in the form of `GIT_ALLOW_PROTOCOL`.
const PROTOCOLS: &str = "https:ssh";

/// Returns the same source at the commit that its tag or branch means now. A source that has a
/// commit does not change, and neither does an archive.
///
/// # Errors
///
/// [`CommandError`], if git fails, or if the repository has no such tag or branch.
pub(crate) async fn at_commit(source: ModuleSource) -> Result<ModuleSource, CommandError> {
    let Some(git) = source.git() else { return Ok(source) };
    if source.has_commit() {
        return Ok(source);
    }
    let repository = git.repository;
    let answer = list(git).await.map_err(|error| {
        error.context(format_args!("cannot read the references of `{repository}`"))
    })?;
    let commit = commit_in(&answer, git.reference).ok_or_else(|| match git.reference {
        Some(reference) => {
            CommandError::refused(format!("`{repository}` has no tag and no branch `{reference}`"))
                .hint("push the tag first, or write a full commit id")
        }
        None => CommandError::refused(format!("`{repository}` has no default branch")),
    })?;
    source.at_commit(commit).map_err(|error| {
        CommandError::usage(format!("the source cannot have a commit: {error}"))
            .hint("leave out `depth`, or publish the tag with `--keep-ref`")
    })
}

/// Runs `git ls-remote`, and returns its output.
async fn list(git: GitReference<'_>) -> Result<String, CommandError> {
    let mut messages = tempfile::tempfile()
        .map_err(|error| CommandError::failed_because("cannot create a temporary file", &error))?;
    let for_git = messages
        .try_clone()
        .map_err(|error| CommandError::failed_because("cannot use the temporary file", &error))?;
    let mut child = command(git).stderr(for_git).spawn().map_err(|error| {
        CommandError::failed_because("cannot start `git`", &error)
            .hint("install git, or write a full commit id in `ref`")
    })?;
    let answer = read(&mut child).await;
    if answer.is_none() {
        // It ends by itself when nobody reads its output.
        let _ended = child.kill();
    }
    let status = child
        .wait()
        .map_err(|error| CommandError::failed_because("cannot wait for `git`", &error))?;
    let Some(answer) = answer else {
        return Err(CommandError::failed("`git` gave no answer in time"));
    };
    let answer =
        answer.map_err(|error| CommandError::failed_because("`git` gave no answer", &error))?;
    if !status.success() {
        return Err(CommandError::failed(format!("git: {}", said(&mut messages))));
    }
    Ok(answer)
}

/// Creates the command. git reads no answer from the user, and uses no other protocol, whatever its
/// configuration rewrites the URL to.
fn command(git: GitReference<'_>) -> Command {
    let mut command = Command::new("git");
    command.args(["ls-remote", "--quiet", "--", git.repository]);
    match git.reference {
        Some(reference) => command.args(names(reference)),
        None => command.arg("HEAD"),
    };
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Returns what a tag or a branch is called in the output, the best one first. The commit of an
/// annotated tag has `^{}` in its name.
fn names(reference: &str) -> [String; 3] {
    [
        format!("refs/tags/{reference}^{{}}"),
        format!("refs/tags/{reference}"),
        format!("refs/heads/{reference}"),
    ]
}

/// Reads the whole output. `None` if that takes too long.
async fn read(child: &mut Child) -> Option<io::Result<String>> {
    let mut output = child.stdout.take()?.take(MAX_ANSWER_LEN);
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let read = tokio::time::timeout(ANSWER_TIMEOUT, reading).await.ok()?;
    Some(read.unwrap_or_else(|error| Err(io::Error::other(error))))
}

/// Returns the commit of a reference in the output of `git ls-remote`.
fn commit_in<'a>(output: &'a str, reference: Option<&str>) -> Option<&'a str> {
    let names = reference.map_or_else(|| vec!["HEAD".to_owned()], |text| names(text).into());
    let line = |name: &String| {
        output.lines().filter_map(|line| line.split_once('\t')).find(|(_, found)| found == name)
    };
    names.iter().find_map(line).map(|(commit, _)| commit)
}

/// Returns git's own message as one line.
fn said(messages: &mut std::fs::File) -> String {
    let mut text = Vec::new();
    let read = messages.rewind().and_then(|()| messages.take(4096).read_to_end(&mut text));
    let text = one_line(&String::from_utf8_lossy(&text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().chars().take(MAX_MESSAGE_LEN).collect(),
        _ => "it gave no reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_of_a_tag_is_the_one_that_it_points_to_and_a_tag_precedes_a_branch() {
        let [tag, peeled, branch, head] = ["a", "b", "c", "d"].map(|digit| digit.repeat(40));
        let lightweight = format!("{tag}\trefs/tags/v1\n{branch}\trefs/heads/v1\n");
        let annotated = format!("{lightweight}{peeled}\trefs/tags/v1^{{}}\n");
        let others =
            format!("{tag}\trefs/tags/v1.0\n{branch}\trefs/x/refs/heads/v1\n{head}\tHEAD\n");
        for (output, reference, expected) in [
            ("", Some("v1"), None),
            ("", None, None),
            ("refs/tags/v1\n", Some("v1"), None),
            (&*others, Some("v1"), None),
            (&*others, Some("HEAD"), None),
            (&*others, None, Some(&head)),
            (&*lightweight, Some("v1"), Some(&tag)),
            (&*annotated, Some("v1"), Some(&peeled)),
            (&*format!("{branch}\trefs/heads/v1\n"), Some("v1"), Some(&branch)),
        ] {
            assert_eq!(commit_in(output, reference), expected.map(String::as_str), "{output}");
        }
    }

    #[test]
    fn a_reference_is_never_an_option_of_git() {
        let git = GitReference { repository: "https://h.example/vpc", reference: Some("v1") };
        let command = command(git);
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        let expected = [
            "ls-remote",
            "--quiet",
            "--",
            "https://h.example/vpc",
            "refs/tags/v1^{}",
            "refs/tags/v1",
            "refs/heads/v1",
        ];
        assert_eq!(words, expected);
    }
}
