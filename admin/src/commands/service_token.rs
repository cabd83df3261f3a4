//! `token issue`, `rotate` and `adopt`, and how a service token is shown and revoked.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::grants::{Grant, GrantNamespace};
use stile_core::principal::{LocalName, Principal};
use stile_core::service_token::{
    ClientNetwork, NewSecret, ServiceToken, ServiceTokenTerms, TokenIssuer,
};
use stile_core::token::TokenId;
use stile_core::usage::start_of;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission};
use stile_store::{
    IssuedServiceToken, ServiceTokenChanged, ServiceTokenIssued, StoredServiceToken,
};

use super::grant_text::{GrantLine, namespace, object as grant_object};
use super::{Context, OpenStore, event, kept, record};
use crate::cli::{TokenAdopt, TokenIssue, TokenRotate};
use crate::error::CommandError;
use crate::expiry::{self, Expiry};
use crate::output::notice;
use crate::target::StoreTarget;

/// The most lists that the revocation of all tokens reads.
const MAX_LISTS: usize = 10;

/// Issues a service token, and prints it once.
pub(super) async fn issue(context: &Context, args: &TokenIssue) -> Result<(), CommandError> {
    let terms = terms(context, args)?;
    if terms.grant_namespaces() == [GrantNamespace::All] && !args.yes {
        let problem = "a token for `*` is valid for all current and future namespaces";
        return Err(CommandError::refused(problem).hint("add `--yes` to confirm"));
    }
    let secret = new_secret()?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::ServiceToken, &operator);
    event.service_terms(&terms);
    let kept = kept(&event, context);
    let issued = Box::pin(store.issue_service_token(&operator, &secret, terms, &kept));
    let issued = record(event, issued.await, outcome)?;
    print_issued(context, &args.store, &secret, issued)
}

/// Issues the next token of a service, and lets the old one end.
pub(super) async fn rotate(context: &Context, args: &TokenRotate) -> Result<(), CommandError> {
    let id = token_id(&args.token)?;
    let end = end("--expires", &args.expires, context.now)?;
    let old_ends = end_of_old(args, context.now)?;
    let secret = new_secret()?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let old = store.service_token(&id).await?.ok_or_else(|| absent(&id, &args.store))?.token;
    let terms =
        old.next_terms(end, context.now).map_err(|error| CommandError::usage(error.to_string()))?;
    let mut event = event(Kind::ServiceToken, &operator);
    event.service_terms(&terms);
    let ends = old_ends.min(old.terms().expires_at());
    event.requested(format!("replaces {} until {}", id.as_str(), rfc3339(ends)));
    let replaced = (&old, old_ends);
    let kept = kept(&event, context);
    let issued = Box::pin(store.rotate_service_token(&operator, replaced, &secret, terms, &kept));
    let issued = record(event, issued.await, outcome)?;
    if matches!(issued, ServiceTokenIssued::Done(_)) {
        notice(format_args!("the token {} ends at {}", id.as_str(), rfc3339(ends)));
    }
    print_issued(context, &args.store, &secret, issued)
}

/// Makes the operator the issuer of a service token.
pub(super) async fn adopt(context: &Context, args: &TokenAdopt) -> Result<(), CommandError> {
    let id = token_id(&args.token)?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::ServiceToken, &operator);
    event.token(&id);
    let adopted = store.adopt_service_token(&operator, &id, &kept(&event, context)).await;
    let adopted = record(event, adopted, |adopted| match adopted {
        ServiceTokenChanged::Done(_) => Outcome::Changed,
        ServiceTokenChanged::Unchanged(_) => Outcome::Unchanged,
        ServiceTokenChanged::Absent => Outcome::Absent,
    })?;
    let (status, id) = match adopted {
        ServiceTokenChanged::Done(_) => ("adopted", id),
        ServiceTokenChanged::Unchanged(_) => ("unchanged", id),
        ServiceTokenChanged::Absent => return Err(absent(&id, &args.store)),
    };
    let line = match status {
        "adopted" => format!("adopted the service token {}", id.as_str()),
        _ => format!("unchanged: an operator is the issuer of the token {} already", id.as_str()),
    };
    context.output.outcome(line, &json!({ "status": status, "id": id.as_str() }))
}

/// Revokes a service token. Returns false if there is none with this id.
pub(super) async fn revoke(
    context: &Context,
    OpenStore { store, operator }: &OpenStore,
    id: &TokenId,
) -> Result<bool, CommandError> {
    let mut event = event(Kind::ServiceToken, operator);
    event.token(id);
    let revoked = store.revoke_service_token(operator, id, &kept(&event, context)).await?;
    let ServiceTokenChanged::Done(token) = revoked else { return Ok(false) };
    if let Some(token) = &token {
        event.service_token(token);
        notice(format_args!(
            "the grants of `{}` stay until they end; hint: run `stile-admin grant list --principal {}`",
            token.terms().principal(),
            token.terms().principal()
        ));
    }
    record(event, Ok(()), |()| Outcome::Revoked)?;
    Ok(true)
}

/// Revokes all service tokens, and returns their number.
///
/// A request that a broker was serving may add one after the list, so it lists again until there is none.
/// An error at one token does not keep the others alive.
pub(super) async fn revoke_all(context: &Context, open: &OpenStore) -> Result<usize, CommandError> {
    let (mut revoked, mut failed) = (0, BTreeMap::new());
    for _ in 0..MAX_LISTS {
        let listed = open.store.service_tokens(&open.operator).await?;
        let ids = listed.tokens.into_iter().map(|stored| stored.token.id().clone());
        let is_left = |id: &TokenId| !failed.contains_key(id.as_str());
        let left: Vec<_> = ids.chain(listed.unreadable).filter(is_left).collect();
        if left.is_empty() {
            return all_revoked(revoked, failed);
        }
        for id in left {
            match revoke_listed(context, open, &id).await {
                Ok(was_there) => revoked += usize::from(was_there),
                Err(error) => {
                    failed.insert(id.as_str().to_owned(), error);
                }
            }
        }
    }
    Err(CommandError::failed("holders of `create_grant` issue service tokens all the time")
        .hint("revoke them with `stile-admin token revoke --principal`, and run the command again"))
}

/// Returns the number of the revoked tokens, or the first error if some are left.
fn all_revoked(
    revoked: usize,
    mut failed: BTreeMap<String, CommandError>,
) -> Result<usize, CommandError> {
    let number = failed.len();
    let Some((id, error)) = failed.pop_first() else { return Ok(revoked) };
    notice(format_args!("revoked {revoked} service tokens, and {number} are left, such as {id}"));
    Err(error)
}

/// Revokes a service token of the list. Returns false if another program did so first.
async fn revoke_listed(
    context: &Context,
    OpenStore { store, operator }: &OpenStore,
    id: &TokenId,
) -> Result<bool, CommandError> {
    let mut event = event(Kind::ServiceToken, operator);
    event.token(id);
    let done = store.revoke_service_token(operator, id, &kept(&event, context)).await;
    let done = record(event, done, |done| match done {
        ServiceTokenChanged::Absent => Outcome::Absent,
        _ => Outcome::Revoked,
    })?;
    Ok(done != ServiceTokenChanged::Absent)
}

/// Says which tokens a withdrawn grant of a service leaves: a later grant, also one that a token of
/// the same name brings, gives them their access again. The grant has changed, so an error is no more
/// than a notice.
pub(super) async fn warn_of_tokens(
    context: &Context,
    OpenStore { store, operator }: &OpenStore,
    (principal, on): (&Principal, &GrantNamespace),
) {
    if !matches!(principal, Principal::Service(_)) {
        return;
    }
    let Ok(listed) = store.service_tokens(operator).await else {
        return warn_of_any_token(principal);
    };
    let tokens = listed.tokens.iter().map(|stored| &stored.token);
    for token in tokens.filter(|token| is_left(token, principal, on, context.now)) {
        let id = token.id().as_str();
        notice(format_args!(
            "the service token {id} stays, and a later grant of `{principal}` gives it access again; \
             hint: if it leaked, run `stile-admin token revoke {id}`"
        ));
    }
}

/// Says the same where the program cannot list the tokens.
pub(super) fn warn_of_any_token(principal: &Principal) {
    if matches!(principal, Principal::Service(_)) {
        notice(format_args!(
            "the service tokens of `{principal}` stay, and a later grant gives them access again; \
             hint: if one leaked, ask an operator to run `stile-admin token revoke`"
        ));
    }
}

/// Returns whether a token of this service has not ended and names the namespace of the grant.
fn is_left(token: &ServiceToken, principal: &Principal, on: &GrantNamespace, now: i64) -> bool {
    let (terms, all) = (token.terms(), GrantNamespace::All);
    let named = terms.grant_namespaces();
    terms.principal() == *principal
        && terms.expires_at() > now
        && (*on == all || named.contains(&all) || named.contains(on))
}

/// Returns the row of a service token in a list.
pub(super) fn row(stored: &StoredServiceToken, now: i64) -> (Vec<String>, Value) {
    let token = &stored.token;
    let terms = token.terms();
    let used =
        stored.last_used.map_or("never used".to_owned(), |day| format!("used {}", date(day)));
    let end = rfc3339(terms.expires_at());
    let until = if terms.expires_at() <= now { "ended" } else { "until" };
    let on = namespaces(token).join(",");
    let what = format!("{}: {} on {on}, {until} {end}, {used}", token.name(), terms.permissions());
    (vec!["service token".to_owned(), token.id().as_str().to_owned(), what], object(stored))
}

/// Returns the row of a service token that this program cannot read.
pub(super) fn unreadable_row(id: &TokenId) -> (Vec<String>, Value) {
    let json = json!({ "kind": "service_token", "id": id.as_str(), "unreadable": true });
    (vec!["service token".to_owned(), id.as_str().to_owned(), "unreadable".to_owned()], json)
}

fn object(stored: &StoredServiceToken) -> Value {
    let token = &stored.token;
    let mut object = json!({
        "kind": "service_token",
        "id": token.id().as_str(),
        "name": token.name().as_str(),
        "principal": token.terms().principal(),
        "namespaces": namespaces(token),
        "permissions": token.terms().permissions(),
        "networks": networks(token),
        "created_at": rfc3339(token.created_at()),
        "expires_at": rfc3339(token.terms().expires_at()),
        "last_used": stored.last_used.map(date),
        "replaced_by": token.replaced_by().map(TokenId::as_str),
    });
    match token.issuer() {
        TokenIssuer::Operator(operator) => object["operator"] = operator.as_str().into(),
        TokenIssuer::Delegate { principal, .. } => object["issuer"] = json!(principal),
    }
    object
}

fn print_issued(
    context: &Context,
    store: &StoreTarget,
    secret: &NewSecret,
    issued: ServiceTokenIssued,
) -> Result<(), CommandError> {
    let IssuedServiceToken { token, grants, new_namespaces } = match issued {
        ServiceTokenIssued::Done(issued) => *issued,
        ServiceTokenIssued::TooMany(limit) => {
            return Err(CommandError::refused(limit.to_string()).hint(format!(
                "revoke those that nobody uses: `{}`",
                store.command("token list")
            )));
        }
        ServiceTokenIssued::TooManyGrants => {
            return Err(CommandError::refused("the service has the maximum number of grants")
                .hint("use another `--name`, or delete grants of the service"));
        }
        ServiceTokenIssued::Absent => {
            return Err(CommandError::refused("the token has changed, or is gone")
                .hint(format!("`{}` lists all service tokens", store.command("token list"))));
        }
        ServiceTokenIssued::Refused(refusal) => {
            return Err(CommandError::refused(refusal.to_string()));
        }
        ServiceTokenIssued::NamespaceFull(_) | ServiceTokenIssued::Stale => {
            return Err(CommandError::failed("other programs change the grants too often"));
        }
    };
    for grant in &grants {
        notice(format_args!("the grant is now {}", GrantLine(grant)));
    }
    for namespace in &new_namespaces {
        notice(format_args!("nothing else in the store mentions the namespace `{namespace}`"));
    }
    let text = secret.expose().as_str();
    let line = format_args!(
        "issued the service token {} of `{}`, which ends at {}\n\nThe token, which no command shows again:\n{text}",
        token.id().as_str(),
        token.terms().principal(),
        rfc3339(token.terms().expires_at()),
    )
    .to_string();
    let mut json = object(&StoredServiceToken { token, last_used: None });
    json["status"] = "created".into();
    json["token"] = text.into();
    json["grants"] = grants.iter().map(|grant: &Grant| grant_object(grant)).collect();
    json["new_namespaces"] = new_namespaces.iter().map(Namespace::as_str).collect();
    context.output.outcome(line, &json)
}

fn outcome(issued: &ServiceTokenIssued) -> Outcome {
    match issued {
        ServiceTokenIssued::Done(_) => Outcome::Created,
        ServiceTokenIssued::TooMany(_)
        | ServiceTokenIssued::TooManyGrants
        | ServiceTokenIssued::NamespaceFull(_) => Outcome::Full,
        ServiceTokenIssued::Absent => Outcome::Absent,
        ServiceTokenIssued::Refused(_) | ServiceTokenIssued::Stale => Outcome::Conflict,
    }
}

fn terms(context: &Context, args: &TokenIssue) -> Result<ServiceTokenTerms, CommandError> {
    let usage = |problem: String| CommandError::usage(problem);
    let name: LocalName = args.name.parse().map_err(|error| usage(format!("`--name`: {error}")))?;
    let mut list: Vec<Namespace> = Vec::new();
    let mut all = false;
    for text in &args.namespaces {
        match namespace(text)? {
            GrantNamespace::All => all = true,
            GrantNamespace::One(one) if !list.contains(&one) => list.push(one),
            GrantNamespace::One(_) => {}
        }
    }
    let namespaces = match (all, list.is_empty()) {
        (true, true) => Namespaces::All,
        (true, false) => {
            return Err(usage("`*` means all namespaces, so no other one goes with it".to_owned()));
        }
        (false, _) => Namespaces::List(list),
    };
    let permission = |text: &String| {
        text.parse::<Permission>().map_err(|error| usage(format!("`--permission`: {error}")))
    };
    let permissions = args.permissions.iter().map(permission).collect::<Result<_, _>>()?;
    let network =
        |text: &String| text.parse().map_err(|error| usage(format!("`--cidr`: `{text}`: {error}")));
    let networks = args.networks.iter().map(network).collect::<Result<Vec<ClientNetwork>, _>>()?;
    let end = end("--expires", &args.expires, context.now)?;
    ServiceTokenTerms::new(name, namespaces, permissions, networks, end, context.now)
        .map_err(|error| usage(error.to_string()))
}

/// Parses an end that a token must have.
fn end(flag: &str, text: &str, now: i64) -> Result<i64, CommandError> {
    let expiry = expiry::parse(text, now)
        .map_err(|error| CommandError::usage(format!("`{flag}`: {error}")))?;
    expiry.end(now).ok_or_else(|| {
        CommandError::usage(format!("`{flag}`: every service token has an end"))
            .hint("give a time, or a duration of at most `400d`")
    })
}

fn end_of_old(args: &TokenRotate, now: i64) -> Result<i64, CommandError> {
    // `never` leaves the old token its own end.
    match expiry::parse(&args.old_ends, now) {
        Ok(Expiry::Never) => Ok(i64::MAX),
        _ => end("--old-ends", &args.old_ends, now),
    }
}

/// Parses an id. The error does not repeat the text, because it may be the token itself.
fn token_id(text: &str) -> Result<TokenId, CommandError> {
    TokenId::parse(text).ok_or_else(|| {
        CommandError::usage("the argument is not the id of a service token")
            .hint("use the id of `token list` (22 characters), not the token itself")
    })
}

fn new_secret() -> Result<NewSecret, CommandError> {
    NewSecret::random().map_err(|_| CommandError::failed("the system gives no random bytes"))
}

fn absent(id: &TokenId, store: &StoreTarget) -> CommandError {
    CommandError::refused(format!("there is no service token {}", id.as_str()))
        .hint(format!("`{}` lists all service tokens", store.command("token list")))
}

fn namespaces(token: &ServiceToken) -> Vec<String> {
    token.terms().grant_namespaces().iter().map(ToString::to_string).collect()
}

fn networks(token: &ServiceToken) -> Vec<String> {
    token.terms().networks().iter().map(ToString::to_string).collect()
}

fn date(day: i64) -> String {
    rfc3339(start_of(day)).split('T').next().unwrap_or_default().to_owned()
}
