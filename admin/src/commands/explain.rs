//! `grant explain`: tells whether a principal has a permission, and how the nearest grant differs.
//!
//! It reads the store and prints. `stile_core::grants` has the reasoning and its sentences.

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::grants::{
    AccessQuestion, AskedToken, Condition, Difference, Explanation, Grant, GrantNamespace,
    NearestGrant, Verdict, principals_of,
};
use stile_core::principal::{Principal, UniqueId, parse_typed};
use stile_protocol::names::Permissions;

use super::grant_text::{
    GrantFlags, GrantLine, lookup, namespace, object, permission_flags, unique_id,
};
use super::{CommandResult, Context, OpenStore};
use crate::cli::GrantExplain;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// The exit code if the principal has access under a condition that the program cannot check.
const CONDITIONAL: u8 = 3;

/// Prints the explanation to stdout.
///
/// The exit code is 1 if the principal has no access, and [`CONDITIONAL`] if the broker may refuse it.
pub(super) async fn run(context: &Context, args: &GrantExplain) -> CommandResult {
    // The caller is the role itself, even if a permission set could replace it.
    let caller = parse_typed(&args.principal, true)?.principal;
    let id = args.unique_id.as_deref().map(|text| unique_id(&caller, text)).transpose()?;
    let namespace = namespace(&args.on.namespace)?;
    let OpenStore { store, operator } = context.open(&args.store).await?;
    let state = store.principal_state(principals_of(&caller)).await?;
    let all = spinning("reading the grants", store.grants(&operator, None, None)).await?;
    let revoked = store.revocations(&operator).await?.principals;
    let revoked: Vec<Principal> = revoked.into_iter().map(|revoked| revoked.principal).collect();
    let question = AccessQuestion {
        caller: &caller,
        unique_id: id.as_ref(),
        namespace: (&namespace).into(),
        permission: args.permission,
        token: AskedToken::default(),
        now: context.now,
    };
    let explanation = question.explain(&state, &all, &revoked);
    let shown =
        Shown { target: &args.store, question, namespace: &namespace, explanation: &explanation };
    context.output.outcome(shown.lines(), &shown.json())?;
    Ok(match explanation.verdict() {
        Verdict::Yes => ExitCode::SUCCESS,
        Verdict::YesIf => ExitCode::from(CONDITIONAL),
        Verdict::No => ExitCode::from(1),
    })
}

/// A question and its answer, as the command prints them.
struct Shown<'a> {
    target: &'a StoreTarget,
    question: AccessQuestion<'a>,
    namespace: &'a GrantNamespace,
    explanation: &'a Explanation,
}

impl Shown<'_> {
    fn lines(&self) -> String {
        let mut lines = vec![self.question.sentence(self.explanation)];
        match self.explanation {
            Explanation::Yes { by, condition } => {
                lines.extend(by.iter().map(|grant| format!("granted: {}", GrantLine(grant))));
                let hint = condition.as_ref().map(|condition| self.check(condition));
                lines.extend(hint.map(|hint| format!("hint: {hint}")));
            }
            Explanation::Revoked(principal) => {
                let hint = principal.as_ref().map(|principal| self.lift_command(principal));
                lines.extend(hint.map(|hint| format!("hint: {hint}")));
            }
            Explanation::Token(difference) => lines.push(difference.to_string()),
            Explanation::No(None) => {
                lines.push("no similar grant exists".to_owned());
                lines.push(format!("hint: {}", self.create_command()));
            }
            Explanation::No(Some(NearestGrant { grant, differences })) => {
                lines.push(format!("nearest grant: {}", GrantLine(grant)));
                let differs = |difference: &Difference| format!("differs by {difference}");
                lines.extend(differences.iter().map(differs));
                lines.push(format!("hint: {}", self.remedy(grant, differences)));
            }
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let AccessQuestion { caller, namespace, permission, .. } = self.question;
        let verdict = self.explanation.verdict();
        let mut json = json!({
            "allowed": verdict.allowed(), "decision": verdict.as_str(),
            "principal": caller, "namespace": namespace.to_string(), "permission": permission.as_str(),
        });
        match self.explanation {
            Explanation::Yes { by, condition } => {
                json["grants"] = by.iter().map(object).collect();
                json["unique_id"] = Value::Null;
                if let Some(condition) = condition {
                    json["condition"] = condition.to_string().into();
                    json["hint"] = self.check(condition).into();
                }
                match condition {
                    Some(Condition::UniqueId(id)) => {
                        json["unique_id"] = id.as_ref().map(UniqueId::as_str).into();
                    }
                    Some(Condition::NoneOf(parts)) => json["none_of"] = json!(parts),
                    None => {}
                }
            }
            Explanation::Revoked(principal) => {
                json["revoked"] = principal.as_ref().map(Principal::as_str).into();
                json["hint"] =
                    principal.as_ref().map(|principal| self.lift_command(principal)).into();
            }
            Explanation::Token(difference) => json["differs_by"] = json!([difference.label()]),
            Explanation::No(None) => {
                json["nearest"] = Value::Null;
                json["hint"] = self.create_command().into();
            }
            Explanation::No(Some(NearestGrant { grant, differences })) => {
                json["nearest"] = object(grant);
                json["differs_by"] = differences.iter().map(Difference::label).collect();
                json["hint"] = self.remedy(grant, differences).into();
            }
        }
        json
    }

    /// Returns how the operator checks a condition.
    fn check(&self, condition: &Condition) -> String {
        match condition {
            Condition::UniqueId(_) => {
                format!("{}; pass it as `--unique-id`", lookup(self.question.caller))
            }
            Condition::NoneOf(_) => {
                "pass the ARN of the caller, from `aws sts get-caller-identity`".to_owned()
            }
        }
    }

    /// Returns the commands that would give the caller access.
    fn remedy(&self, grant: &Grant, differences: &[Difference]) -> String {
        let update = || {
            format!(
                "{} {}",
                self.target.command("grant update"),
                GrantFlags(&grant.principal, &grant.namespace)
            )
        };
        match differences {
            [Difference::Expiry(_)] => format!("`{} --expires WHEN`", update()),
            [Difference::Permission(_)] => format!("`{}{}`", update(), self.permission_flag()),
            // The store rejects grants to two names that differ only by case.
            [Difference::Case(..)] if grant.principal.is_caller() => {
                let delete = self.target.command("grant delete");
                format!(
                    "`{delete} {}`, then {}",
                    GrantFlags(&grant.principal, &grant.namespace),
                    self.create_command()
                )
            }
            [Difference::UniqueId(_)] => {
                format!(
                    "`{} --role-arn {}`, if the recreated principal may have the grant",
                    self.target.command("grant repin"),
                    self.question.caller.display_name()
                )
            }
            _ => self.create_command(),
        }
    }

    fn permission_flag(&self) -> String {
        permission_flags(Permissions::NONE.with(self.question.permission))
    }

    fn create_command(&self) -> String {
        let (caller, namespace) = (self.question.caller, self.namespace);
        let principals = principals_of(caller);
        let set = principals.iter().find(|one| matches!(one, Principal::PermissionSet(_)));
        format!(
            "`{} {}{}`",
            self.target.command("grant create"),
            GrantFlags(set.unwrap_or(caller), namespace),
            self.permission_flag()
        )
    }

    fn lift_command(&self, principal: &Principal) -> String {
        format!("`{} --principal {principal}`", self.target.command("token lift"))
    }
}
