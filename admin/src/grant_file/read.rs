//! Reads a file of grants, and reports every wrong place of it at once.

use std::collections::{BTreeMap, BTreeSet};

use stile_core::grants::GrantNamespace;
use stile_core::principal::{Principal, parse_typed};
use stile_protocol::names::{Permission, Permissions};
use terraform_credentials_stile::message::one_line;

use super::model::{ALL, FileFormat, GrantFile, Owned, VERSION, WantedGrant, can_have};
use super::node::{At, Node, Places, Problem};
use super::{from_json, from_toml};
use crate::error::CommandError;
use crate::expiry::{Expiry, ExpiryError, parse_with_past};

/// The keys of a file.
const FILE_KEYS: [&str; 3] = ["version", "owns", "grant"];

/// The largest file, in bytes: some ten thousand grants.
pub(crate) const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The most wrong places that are reported. The last error counts the others.
const MAX_ERRORS: usize = 20;

/// The mark of the byte order, with which some editors begin a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The keys of a grant.
const GRANT_KEYS: [&str; 4] = ["principal", "namespace", "permissions", "expires"];

/// Returns the text of a file, without a mark of the byte order.
///
/// # Errors
///
/// The place of the first byte that is not UTF-8.
pub(crate) fn text_of(name: &str, bytes: Vec<u8>) -> Result<String, CommandError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            let before = bytes.get(..at).unwrap_or_default();
            let before = String::from_utf8_lossy(before);
            let before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&before);
            let (line, column) = Places::of(before).line_and_column(before.len());
            let message = format!("`{name}` line {line}, column {column}: the file is not UTF-8");
            Err(CommandError::usage(message))
        }
    }
}

/// Parses a file. `skips_ended` leaves out grants whose end has passed; otherwise they are wrong.
///
/// # Errors
///
/// One error for each wrong place, in their order, and at most [`MAX_ERRORS`]. Each names the file,
/// the line and the column. One more error counts the other places.
pub(crate) fn parse(
    name: &str,
    text: &str,
    format: FileFormat,
    now: i64,
    skips_ended: bool,
) -> Result<GrantFile, Vec<CommandError>> {
    let root = match format {
        FileFormat::Toml => from_toml::read(text),
        FileFormat::Json => from_json::read(text),
    };
    let mut reader = Reader {
        name,
        places: Places::of(text),
        now,
        skips_ended,
        problems: Vec::new(),
        notices: Vec::new(),
    };
    let read = match root {
        Ok(root) => reader.file(&root),
        Err(problems) => {
            reader.problems = problems;
            None
        }
    };
    match read {
        Some((owned, grants)) if reader.problems.is_empty() => {
            Ok(GrantFile { owned, grants, notices: reader.notices, unmentioned: Vec::new() })
        }
        _ => Err(reader.errors()),
    }
}

struct Reader<'a> {
    name: &'a str,
    places: Places<'a>,
    now: i64,
    skips_ended: bool,
    problems: Vec<Problem>,
    notices: Vec<String>,
}

/// The members of a table, each with its place.
type Members<'n> = BTreeMap<&'static str, &'n At<Node>>;

impl Reader<'_> {
    fn file(&mut self, root: &At<Node>) -> Option<(Owned, Vec<WantedGrant>)> {
        let members = self.members(root, "the file", &FILE_KEYS)?;
        self.version(members.get("version").copied(), root.at)?;
        let owned = match members.get("owns") {
            Some(owns) => self.owned(owns),
            None => {
                self.problem(Problem::new(root.at, "the file does not say what it owns").hint(
                    "add `owns`: a list of namespaces, as in `owns = [\"acme\"]`, or \
                         `owns = \"all\"` for every grant",
                ));
                None
            }
        };
        let listed = match members.get("grant") {
            // A file that lost its end must not delete what it owns.
            None => {
                let problem = Problem::new(root.at, "the file has no `grant`");
                self.problem(problem.hint("add the grants, or `grant = []` for none"));
                &[][..]
            }
            Some(At { value: Node::List(listed), .. }) => listed.as_slice(),
            Some(other) => {
                self.mistyped(other, "`grant`", "a list of grants");
                &[][..]
            }
        };
        let mut grants = Vec::new();
        let mut seen = BTreeMap::new();
        for grant in listed {
            grants.extend(self.grant(grant, owned.as_ref(), &mut seen));
        }
        self.check_case(&seen);
        Some((owned?, grants))
    }

    fn version(&mut self, version: Option<&At<Node>>, start: usize) -> Option<()> {
        let problem = match version {
            Some(At { value: Node::Number(number), .. }) if number == VERSION => return Some(()),
            Some(At { value: Node::Number(number), at }) => {
                let text = format!(
                    "the file has version `{}`, and this program reads version `{VERSION}`",
                    one_line(number)
                );
                Problem::new(*at, text).hint("use a newer `stile-admin`")
            }
            Some(other) => {
                self.mistyped(other, "`version`", "a number");
                return None;
            }
            None => Problem::new(start, "the file has no `version`").hint("add `version = 1`"),
        };
        self.problem(problem);
        None
    }

    fn owned(&mut self, owns: &At<Node>) -> Option<Owned> {
        let listed = match &owns.value {
            Node::Text(text) if text == ALL => return Some(Owned::All),
            Node::List(listed) => listed,
            Node::Text(text) => {
                let text = format!("`{}` is not a list of namespaces", one_line(text));
                let hint = "use a list, as in `[\"acme\"]`, or `\"all\"` for every grant";
                self.problem(Problem::new(owns.at, text).hint(hint));
                return None;
            }
            _ => {
                self.mistyped(owns, "`owns`", "a list of namespaces, or `\"all\"`");
                return None;
            }
        };
        if listed.is_empty() {
            let line = self.places.line(owns.at);
            self.notices.push(format!("line {line}: the file owns nothing, so it changes nothing"));
        }
        let mut these = BTreeSet::new();
        for name in listed {
            let Some(namespace) = self.namespace(name, "a namespace of `owns`") else { continue };
            if !these.insert(namespace.clone()) {
                self.problem(Problem::new(name.at, format!("`{namespace}` appears twice")));
            }
        }
        Some(Owned::These(these))
    }

    /// Reads one grant. `seen` has the place of each grant so far.
    fn grant(
        &mut self,
        grant: &At<Node>,
        owned: Option<&Owned>,
        seen: &mut BTreeMap<(Principal, GrantNamespace), usize>,
    ) -> Option<WantedGrant> {
        let members = self.members(grant, "a grant", &GRANT_KEYS)?;
        let mut required = |key: &'static str| {
            let member = members.get(key).copied();
            if member.is_none() {
                self.problem(Problem::new(grant.at, format!("the grant has no `{key}`")));
            }
            member
        };
        let (principal, namespace, permissions) =
            (required("principal"), required("namespace"), required("permissions"));
        let principal = principal.and_then(|principal| self.principal(principal));
        let permissions = permissions.and_then(|permissions| self.permissions(permissions));
        let on = namespace.and_then(|on| Some((self.namespace(on, "`namespace`")?, on.at)));
        if let (Some((namespace, at)), Some(owned)) = (&on, owned)
            && !owned.includes(namespace)
        {
            let text = format!("the file does not own the namespace `{namespace}`");
            let hint = format!("add `\"{namespace}\"` to `owns`, or remove the grant");
            self.problem(Problem::new(*at, text).hint(hint));
        }
        let end = self.end(members.get("expires").copied());
        let (principal, (namespace, _)) = (principal?, on?);
        if let Some(first) = seen.get(&(principal.clone(), namespace.clone())) {
            let line = self.places.line(*first);
            let text = format!(
                "the grant for `{principal}` on `{namespace}` is there twice, first in line {line}"
            );
            let problem = Problem::new(grant.at, text);
            self.problem(problem.hint("put the permissions of both into one grant"));
            return None;
        }
        seen.insert((principal.clone(), namespace.clone()), grant.at);
        let End::At(expires_at) = end? else { return None };
        Some(WantedGrant { principal, namespace, permissions: permissions?, expires_at })
    }

    /// Reports principals whose names differ only by case. The store refuses the second one.
    fn check_case(&mut self, seen: &BTreeMap<(Principal, GrantNamespace), usize>) {
        let mut by_name: BTreeMap<String, (&Principal, usize)> = BTreeMap::new();
        let mut in_order: Vec<_> = seen.iter().collect();
        in_order.sort_by_key(|(_, at)| **at);
        for ((principal, _), at) in in_order {
            let (first, first_at) = *by_name.entry(principal.folded()).or_insert((principal, *at));
            if first != principal {
                let line = self.places.line(first_at);
                let text = format!(
                    "`{principal}` differs only by case from `{first}` in line {line}, and IAM \
                     treats both as the same name"
                );
                self.problem(Problem::new(*at, text));
            }
        }
    }

    fn principal(&mut self, node: &At<Node>) -> Option<Principal> {
        let text = self.text_of(node, "`principal`")?;
        let typed = match parse_typed(text, false) {
            Ok(typed) => typed,
            Err(error) => {
                self.problem(Problem::new(node.at, error.to_string()).hint(error.hint()));
                return None;
            }
        };
        // In a command, the permission set replaces the role, with a notice. Nobody reads a notice
        // about a line of a file.
        if let Ok(role) = parse_typed(text, true)
            && role.principal != typed.principal
        {
            let problem = format!(
                "`{}` is a role of IAM Identity Center, whose name changes when the permission set \
                 is provisioned again",
                one_line(text)
            );
            let hint =
                format!("write `{}`, or `{}` for the role itself", typed.principal, role.principal);
            self.problem(Problem::new(node.at, problem).hint(hint));
            return None;
        }
        if !can_have(&typed.principal) {
            let problem = format!(
                "a file has no grants of services, and `{}` is one: its tokens bring its grants",
                typed.principal
            );
            let hint = "remove the grant, and use `token issue`, or `grant create` and `update`";
            self.problem(Problem::new(node.at, problem).hint(hint));
            return None;
        }
        if !typed.needs_confirmation {
            let line = self.places.line(node.at);
            let notices = typed.notices.iter();
            self.notices.extend(notices.map(|notice| format!("line {line}: {notice}")));
        }
        Some(typed.principal)
    }

    fn namespace(&mut self, node: &At<Node>, what: &str) -> Option<GrantNamespace> {
        match self.text_of(node, what)?.parse::<GrantNamespace>() {
            Ok(namespace) => Some(namespace),
            Err(error) => {
                self.problem(Problem::new(node.at, error.to_string()));
                None
            }
        }
    }

    fn permissions(&mut self, node: &At<Node>) -> Option<Permissions> {
        let Node::List(listed) = &node.value else {
            self.mistyped(node, "`permissions`", "a list of permissions");
            return None;
        };
        if listed.is_empty() {
            let problem = Problem::new(node.at, "the grant has no permission");
            self.problem(problem.hint("remove the grant, or name a permission"));
            return None;
        }
        let mut permissions = Some(Permissions::NONE);
        for name in listed {
            let text = self.text_of(name, "a permission");
            let permission = text.and_then(|text| match text.parse::<Permission>() {
                Ok(permission) => Some(permission),
                Err(error) => {
                    self.problem(Problem::new(name.at, error.to_string()));
                    None
                }
            });
            if let (Some(so_far), Some(permission)) = (permissions, permission)
                && so_far.contains(permission)
            {
                self.problem(Problem::new(name.at, format!("`{permission}` appears twice")));
            }
            permissions = permissions.zip(permission).map(|(so_far, one)| so_far.with(one));
        }
        permissions
    }

    fn end(&mut self, expires: Option<&At<Node>>) -> Option<End> {
        let Some(node) = expires else { return Some(End::At(None)) };
        let text = match &node.value {
            Node::Null => return Some(End::At(None)),
            Node::Text(text) | Node::Time(text) => text,
            _ => {
                self.mistyped(node, "`expires`", "a date, a time, or `\"never\"`");
                return None;
            }
        };
        let problem = match parse_with_past(text, self.now) {
            Ok(Expiry::Never) => return Some(End::At(None)),
            Ok(Expiry::At(end)) if self.now < end => return Some(End::At(Some(end))),
            Ok(Expiry::At(_)) if self.skips_ended => return Some(End::Passed),
            Ok(Expiry::At(_)) => Problem::new(
                node.at,
                format!("the grant ended at `{}`, so it allows nothing", one_line(text)),
            )
            .hint("remove the grant, or give it another end"),
            Ok(Expiry::After(_)) => Problem::new(
                node.at,
                format!(
                    "`{}` is a duration, which would mean another end each day",
                    one_line(text)
                ),
            )
            .hint("write the date, as in `2027-01-31`"),
            Err(ExpiryError::Malformed(text)) => Problem::new(
                node.at,
                format!(
                    "`{text}` is neither a time such as `2027-01-31T18:00:00Z` or `2027-01-31`, \
                     nor `never`"
                ),
            ),
            Err(error) => Problem::new(node.at, error.to_string()),
        };
        self.problem(problem);
        None
    }

    /// Returns the members of a table. It reports each unknown or repeated name.
    fn members<'n>(
        &mut self,
        node: &'n At<Node>,
        what: &str,
        keys: &[&'static str],
    ) -> Option<Members<'n>> {
        let Node::Table(members) = &node.value else {
            self.mistyped(node, what, "a table");
            return None;
        };
        let mut found = Members::new();
        for (name, value) in members {
            let Some(key) = keys.iter().find(|key| **key == name.value) else {
                let known: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                let problem = format!("{what} has no key `{}`", one_line(&name.value));
                let hint = format!("the keys are {}", known.join(", "));
                self.problem(Problem::new(name.at, problem).hint(hint));
                continue;
            };
            if found.insert(key, value).is_some() {
                self.problem(Problem::new(name.at, format!("the key `{key}` appears twice")));
            }
        }
        Some(found)
    }

    fn text_of<'n>(&mut self, node: &'n At<Node>, what: &str) -> Option<&'n str> {
        if let Node::Text(text) = &node.value {
            return Some(text);
        }
        self.mistyped(node, what, "a text");
        None
    }

    fn mistyped(&mut self, node: &At<Node>, what: &str, expected: &str) {
        let kind = node.value.kind();
        self.problem(Problem::new(node.at, format!("{what} must be {expected}, and is {kind}")));
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Returns the errors for all problems, in the order of their places.
    fn errors(mut self) -> Vec<CommandError> {
        self.problems.sort_by_key(|problem| problem.at);
        let error = |problem: &Problem| {
            let (line, column) = self.places.line_and_column(problem.at);
            let message = format!("`{}` line {line}, column {column}: {}", self.name, problem.text);
            let error = CommandError::usage(message);
            match &problem.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        };
        let mut errors: Vec<CommandError> =
            self.problems.iter().take(MAX_ERRORS).map(error).collect();
        let more = self.problems.len().saturating_sub(MAX_ERRORS);
        if more > 0 {
            errors
                .push(CommandError::usage(format!("`{}` has {more} more wrong places", self.name)));
        }
        errors
    }
}

/// The end of a grant.
enum End {
    /// It ends at this time, or never.
    At(Option<i64>),
    /// It has ended, and the file may have such grants.
    Passed,
}
