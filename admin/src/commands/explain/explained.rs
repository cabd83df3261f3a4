//! An explanation as the command prints it, from a store or from a registry.

use serde_json::{Value, json};
use stile_core::grants::{
    AccessQuestion, AskedNamespace, Condition, Difference, Explanation, Grant, GrantNamespace,
    Verdict, principals_of,
};
use stile_core::principal::{Principal, UniqueId};
use stile_protocol::names::{Permission, Permissions};

use crate::commands::grant_text::{GrantFlags, GrantLine, lookup, object, permission_flags};
use crate::target::{AnyTarget, ChosenTarget};

/// What the user asks about.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The principal that calls.
    pub(super) caller: Principal,
    /// Where it needs the permission. `None`, if any namespace is enough.
    pub(super) namespace: Option<GrantNamespace>,
    /// The permission.
    pub(super) permission: Permission,
}

impl Asked {
    /// Returns the namespace of the question.
    pub(super) fn namespace(&self) -> AskedNamespace<'_> {
        self.namespace.as_ref().map_or(AskedNamespace::Any, Into::into)
    }
}

/// The answer, in the parts that the command prints.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) asked: Asked,
    pub(super) verdict: Verdict,
    /// The code of what prevents access, or of what the condition depends on.
    pub(super) difference: Option<String>,
    pub(super) sentence: String,
    /// The grants that give access.
    pub(super) granted: Vec<Grant>,
    pub(super) condition: Option<ShownCondition>,
    /// The revoked principal, if the user may know it.
    pub(super) revoked: Option<Principal>,
    pub(super) nearest: Option<Grant>,
    /// How the nearest grant or the token differs.
    pub(super) differences: Vec<ShownDifference>,
}

/// The condition under which the broker gives access.
#[derive(Debug)]
pub(super) struct ShownCondition {
    pub(super) sentence: String,
    /// The pinned id, if the condition is about it and the user may know it.
    pub(super) unique_id: Option<UniqueId>,
    /// The revoked principals, if the condition is about them and the user may know them.
    pub(super) none_of: Vec<Principal>,
}

/// A difference: its code, and its sentence.
#[derive(Debug)]
pub(super) struct ShownDifference {
    pub(super) code: String,
    pub(super) sentence: String,
}

impl From<&Difference> for ShownDifference {
    fn from(difference: &Difference) -> Self {
        Self { code: difference.code().to_owned(), sentence: difference.to_string() }
    }
}

impl From<Condition> for ShownCondition {
    fn from(condition: Condition) -> Self {
        let sentence = condition.to_string();
        let (unique_id, none_of) = match condition {
            Condition::UniqueId(id) => (id, Vec::new()),
            Condition::NoneOf(parts) => (None, parts),
        };
        Self { sentence, unique_id, none_of }
    }
}

impl Explained {
    /// Creates the answer from the facts in a store.
    pub(super) fn new(
        question: &AccessQuestion<'_>,
        asked: &Asked,
        explanation: Explanation,
    ) -> Self {
        let mut explained = Self {
            asked: asked.clone(),
            verdict: explanation.verdict(),
            difference: explanation.difference().map(str::to_owned),
            sentence: question.sentence(&explanation),
            granted: Vec::new(),
            condition: None,
            revoked: None,
            nearest: None,
            differences: Vec::new(),
        };
        match explanation {
            Explanation::Yes { by, condition } => {
                explained.granted = by;
                explained.condition = condition.map(Into::into);
            }
            Explanation::Revoked(principal) => explained.revoked = principal,
            Explanation::Token(difference) => explained.differences.push((&difference).into()),
            Explanation::No(None) => {}
            Explanation::No(Some(nearest)) => {
                explained.differences = nearest.differences.iter().map(Into::into).collect();
                explained.nearest = Some(nearest.grant);
            }
        }
        explained
    }

    /// Returns the answer as lines for people.
    pub(super) fn lines(&self, at: &AnyTarget) -> String {
        let mut lines = vec![self.sentence.clone()];
        lines.extend(self.granted.iter().map(|grant| format!("granted: {}", GrantLine(grant))));
        match &self.nearest {
            Some(grant) => lines.push(format!("nearest grant: {}", GrantLine(grant))),
            None if self.lacks_any_grant() => lines.push("no similar grant exists".to_owned()),
            None => {}
        }
        let differs = |difference: &ShownDifference| format!("differs by {}", difference.sentence);
        lines.extend(self.differences.iter().map(differs));
        lines.extend(self.hint(at).map(|hint| format!("hint: {hint}")));
        lines.join("\n")
    }

    /// Returns the answer as JSON.
    pub(super) fn json(&self, at: &AnyTarget) -> Value {
        let mut json = json!({
            "allowed": self.verdict.allowed(),
            "decision": self.verdict.as_str(),
            "principal": self.asked.caller,
            "namespace": self.asked.namespace.as_ref().map(ToString::to_string),
            "permission": self.asked.permission.as_str(),
            "sentence": self.sentence,
            "difference": self.difference,
        });
        if let Some(hint) = self.hint(at) {
            json["hint"] = hint.into();
        }
        match self.verdict {
            Verdict::Yes | Verdict::YesIf => {
                json["grants"] = self.granted.iter().map(shown).collect();
                json["unique_id"] = Value::Null;
            }
            Verdict::No if self.is_revoked() => json["revoked"] = json!(self.revoked),
            Verdict::No => {
                json["nearest"] = self.nearest.as_ref().map(shown).into();
                if !self.differences.is_empty() {
                    let label = |one: &ShownDifference| one.code.replace('_', " ");
                    json["differs_by"] = self.differences.iter().map(label).collect();
                }
            }
        }
        if let Some(condition) = &self.condition {
            json["condition"] = condition.sentence.as_str().into();
            json["unique_id"] = condition.unique_id.as_ref().map(UniqueId::as_str).into();
            if !condition.none_of.is_empty() {
                json["none_of"] = json!(condition.none_of);
            }
        }
        json
    }

    fn is_revoked(&self) -> bool {
        self.difference.as_deref() == Some("revoked") && self.differences.is_empty()
    }

    /// Returns whether no grant is similar to the access.
    fn lacks_any_grant(&self) -> bool {
        self.verdict == Verdict::No && self.differences.is_empty() && !self.is_revoked()
    }

    /// Returns how to check the condition, or what gives the caller access.
    fn hint(&self, at: &AnyTarget) -> Option<String> {
        let caller = &self.asked.caller;
        match (&self.condition, self.verdict) {
            (Some(ShownCondition { unique_id: Some(_), .. }), _) => {
                Some(format!("{}; pass it as `--unique-id`", lookup(caller)))
            }
            (Some(_), _) if caller.is_caller() => {
                Some("ask an operator whether AWS recreated it".to_owned())
            }
            (Some(_), _) => {
                Some("pass the ARN of the caller, from `aws sts get-caller-identity`".to_owned())
            }
            (None, Verdict::Yes | Verdict::YesIf) => None,
            (None, Verdict::No) if self.is_revoked() => Some(self.revoked.as_ref().map_or_else(
                || "ask an operator to lift the revocation".to_owned(),
                |principal| format!("`{} --principal {principal}`", at.command("token lift")),
            )),
            (None, Verdict::No) => Some(self.remedy(at)),
        }
    }

    /// Returns the commands that would give the caller access.
    fn remedy(&self, at: &AnyTarget) -> String {
        let codes: Vec<&str> = self.differences.iter().map(|one| one.code.as_str()).collect();
        let Some(grant) = &self.nearest else {
            return match codes.as_slice() {
                [] => self.create_command(at),
                ["revoked"] => "request a new token".to_owned(),
                ["scope"] => "request a token with this namespace and permission".to_owned(),
                _ => "use a newer release of `stile-admin`, which can read the nearest grant"
                    .to_owned(),
            };
        };
        let flags = GrantFlags(&grant.principal, &grant.namespace);
        let operators = only_operators(at, &grant.principal, &grant.namespace);
        match codes.as_slice() {
            ["expiry" | "permission" | "case"] if operators => self.create_command(at),
            ["expiry"] => format!("`{} {flags} --expires WHEN`", at.command("grant update")),
            ["permission"] => {
                format!("`{} {flags}{}`", at.command("grant update"), self.permission_flag())
            }
            // The store rejects grants to two names that differ only by case.
            ["case"] if grant.principal.is_caller() => {
                let delete = at.command("grant delete");
                format!("`{delete} {flags}`, then {}", self.create_command(at))
            }
            ["unique_id"] => format!(
                "`{} {} {}`, if the recreated principal may have the grant",
                at.command("grant repin"),
                self.asked.caller.flag(),
                self.asked.caller.display_name()
            ),
            _ => self.create_command(at),
        }
    }

    fn permission_flag(&self) -> String {
        permission_flags(Permissions::NONE.with(self.asked.permission))
    }

    fn create_command(&self, at: &AnyTarget) -> String {
        let caller = &self.asked.caller;
        let principals = principals_of(caller);
        let set = principals.iter().find(|one| matches!(one, Principal::PermissionSet(_)));
        let who = set.unwrap_or(caller);
        let all = GrantNamespace::All;
        if only_operators(at, who, self.asked.namespace.as_ref().unwrap_or(&all)) {
            return "ask an operator for this grant".to_owned();
        }
        let flags = match &self.asked.namespace {
            Some(namespace) => GrantFlags(who, namespace).to_string(),
            None => GrantFlags(who, &all).to_string().replace("'*'", "NAMESPACE"),
        };
        format!("`{} {flags}{}`", at.command("grant create"), self.permission_flag())
    }
}

/// Returns whether the command is for a registry, whose API does not change such a grant.
fn only_operators(at: &AnyTarget, principal: &Principal, namespace: &GrantNamespace) -> bool {
    let by_api = matches!(at.chosen(), Ok(ChosenTarget::Registry(_)));
    let of_many = matches!(principal, Principal::Account(_) | Principal::AwsGroup(_));
    by_api && (of_many || *namespace == GrantNamespace::All)
}

/// Returns a grant as JSON. A registry does not show the origin of each grant.
fn shown(grant: &Grant) -> Value {
    let mut json = object(grant);
    if grant.created_by.is_empty() {
        json["created_by"] = Value::Null;
        json["created_at"] = Value::Null;
    }
    json
}
