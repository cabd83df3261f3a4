//! `grant explain`: tells whether a principal has a permission, and how the nearest grant differs.
//!
//! It asks a store or a registry, and prints. `stile_core::grants` has the reasoning and its
//! sentences.

mod explained;
mod remote;
mod request;

use std::process::ExitCode;

use stile_core::grants::{
    AccessQuestion, AskedToken, Grant, PrincipalState, Verdict, principals_of,
};
use stile_core::principal::{Principal, parse_typed};
use stile_core::token::TokenId;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_protocol::request_id::RequestId;
use terraform_credentials_stile::message::one_line;

use self::explained::{Asked, Explained};
use super::grant_text::{namespace, unique_id};
use super::{CommandResult, Context, OpenStore};
use crate::cli::GrantExplain;
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;
use crate::target::{ChosenTarget, operators_only};

/// The exit code if the principal has access under a condition that the program cannot check.
const CONDITIONAL: u8 = 3;

/// Prints the explanation to stdout.
///
/// The exit code is 1 only if the principal has no access, and [`CONDITIONAL`] if the broker may refuse
/// it. A refusal of the question itself is no answer, so its exit code is 2.
pub(super) async fn run(context: &Context, args: &GrantExplain) -> CommandResult {
    answer(context, args).await.map_err(CommandError::unanswered)
}

async fn answer(context: &Context, args: &GrantExplain) -> CommandResult {
    if let Some(id) = &args.request_id {
        let id = RequestId::parse(id).ok_or_else(|| {
            CommandError::usage(format!("`{}` is not the id of a request", one_line(id)))
                .hint("copy it from the error, or from the header `X-Request-Id` of the answer")
        })?;
        return Box::pin(request::run(context, args, &id)).await;
    }
    let (Some(principal), Some(on)) = (&args.principal, &args.namespace) else {
        return Err(CommandError::usage("`--role-arn` and `--namespace` are required"));
    };
    // The caller is the role itself, even if a permission set could replace it.
    let typed = parse_typed(principal, true)?;
    typed.path_notice().into_iter().for_each(notice);
    let asked = Asked {
        caller: typed.principal,
        namespace: Some(namespace(on)?),
        permission: args.permission.unwrap_or(Permission::Download),
    };
    let explained = match args.at.chosen()? {
        ChosenTarget::Store(_) => at_store(context, args, asked).await?,
        ChosenTarget::Registry(_) if args.unique_id.is_some() => {
            return Err(operators_only("compares a unique id with the pinned one"));
        }
        ChosenTarget::Registry(_) if args.has_token() => {
            return Err(operators_only("sees the tokens of others"));
        }
        ChosenTarget::Registry(api) => Box::pin(remote::explain(context, api, asked)).await?,
    };
    context.output.outcome(explained.lines(&args.at), &explained.json(&args.at))?;
    Ok(exit_code(explained.verdict))
}

async fn at_store(
    context: &Context,
    args: &GrantExplain,
    asked: Asked,
) -> Result<Explained, CommandError> {
    let id = args.unique_id.as_deref().map(|text| unique_id(&asked.caller, text)).transpose()?;
    let token_id = args.token_id.as_deref().map(token_id).transpose()?;
    let namespaces = args.token_namespaces()?;
    let permissions: Option<Permissions> = (!args.token_permission.is_empty())
        .then(|| args.token_permission.iter().copied().collect());
    let facts = Facts::read(context, args, &asked.caller).await?;
    let question = AccessQuestion {
        caller: &asked.caller,
        unique_id: id.as_ref(),
        namespace: asked.namespace(),
        permission: asked.permission,
        token: AskedToken { id: token_id.as_ref(), namespaces: namespaces.as_ref(), permissions },
        now: context.now,
    };
    let explanation = question.explain(&facts.state, &facts.grants, &facts.revoked);
    Ok(Explained::new(&question, &asked, explanation))
}

/// What the store knows about a caller.
struct Facts {
    state: PrincipalState,
    /// All grants.
    grants: Vec<Grant>,
    /// All revoked principals.
    revoked: Vec<Principal>,
}

impl Facts {
    async fn read(
        context: &Context,
        args: &GrantExplain,
        caller: &Principal,
    ) -> Result<Self, CommandError> {
        let target = args.at.store_for("explains a request")?;
        let OpenStore { store, operator } = context.open(target).await?;
        let state = store.principal_state(principals_of(caller)).await?;
        let grants = spinning("reading the grants", store.grants(&operator, None, None)).await?;
        let revoked = store.revocations(&operator).await?.principals;
        let revoked = revoked.into_iter().map(|revoked| revoked.principal).collect();
        Ok(Self { state, grants, revoked })
    }
}

fn token_id(text: &str) -> Result<TokenId, CommandError> {
    TokenId::parse(text).ok_or_else(|| {
        CommandError::usage(format!("`{}` is not the id of a token", one_line(text)))
            .hint("the audit log has it, as `token_id`")
    })
}

impl GrantExplain {
    fn has_token(&self) -> bool {
        self.token_id.is_some()
            || !self.token_namespace.is_empty()
            || !self.token_permission.is_empty()
    }

    fn token_namespaces(&self) -> Result<Option<Namespaces>, CommandError> {
        if self.token_namespace.is_empty() {
            return Ok(None);
        }
        let list: Result<Vec<Namespace>, _> =
            self.token_namespace.iter().map(|text| Namespace::parse(text)).collect();
        Ok(Some(Namespaces::List(list?)))
    }
}

fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Yes => ExitCode::SUCCESS,
        Verdict::YesIf => ExitCode::from(CONDITIONAL),
        Verdict::No => ExitCode::from(1),
    }
}
