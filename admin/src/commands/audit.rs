//! `audit`: lists the kept events, prints signed heads, and removes old events.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use stile_core::audit::{Chain, Kind, Outcome, SignedHead};
use stile_core::clock::rfc3339;
use stile_protocol::names::{Namespace, Permission};
use stile_store::ExpiredEvents;

use super::audit_chain::{DAY, chain, registry, trusted};
use super::audit_event::{EventFilter, HEADER, KeptEvent};
use super::{
    CommandResult, Context, OpenStore, audit_verify, event, existing_principal, kept, record,
};
use crate::api::Api;
use crate::cli::{Audit, AuditExpire, AuditHead, AuditList, AuditVerb};
use crate::error::CommandError;
use crate::expiry::{Expiry, parse_with_past};
use crate::output::notice;
use crate::progress::spinning;
use crate::target::{ChosenTarget, operators_only};

/// The events that one read of the store gets.
const PAGE: usize = 500;

/// The time between two looks of `--follow`.
const FOLLOW: Duration = Duration::from_secs(2);

/// How far back `--follow` looks for events with the API, in seconds: the clocks of brokers differ.
const LOOK_BACK: i64 = 300;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, args: Audit) -> CommandResult {
    match args.verb {
        None => list(context, &args.list).await?,
        Some(AuditVerb::List(args)) => list(context, &args).await?,
        Some(AuditVerb::Head(args)) => return head(context, &args).await,
        Some(AuditVerb::Verify(args)) => return audit_verify::run(context, &args).await,
        Some(AuditVerb::Expire(args)) => expire(context, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses a time, or how long ago it is.
fn when(flag: &str, text: Option<&str>, now: i64) -> Result<Option<i64>, CommandError> {
    let Some(text) = text else { return Ok(None) };
    match parse_with_past(text, now) {
        Ok(Expiry::At(time)) => Ok(Some(time)),
        Ok(Expiry::After(seconds)) => Ok(Some(now.saturating_sub(seconds))),
        Ok(Expiry::Never) | Err(_) => Err(CommandError::usage(format!(
            "`{flag}`: `{text}` is no time such as `2027-01-31T18:00:00Z` or `2027-01-31`, and no duration such as `7d`"
        ))),
    }
}

/// Where a list comes from.
enum Source {
    Store(Box<OpenStore>, Option<Chain>),
    Api(Box<Api>, Option<Namespace>),
}

/// The answer of `GET /v1/audit`.
#[derive(Deserialize)]
struct Page {
    events: Vec<KeptEvent>,
    next_cursor: Option<String>,
}

async fn list(context: &Context, args: &AuditList) -> Result<(), CommandError> {
    let principal = args.principal.as_deref();
    let filter = EventFilter {
        principal: principal.map(|text| existing_principal(text, args.exact)).transpose()?,
        since: when("--since", args.since.as_deref(), context.now)?,
        until: when("--until", args.until.as_deref(), context.now)?,
    };
    let chain = args.namespace.as_deref().map(chain).transpose()?;
    let source = match args.at.chosen()? {
        ChosenTarget::Store(target) => Source::Store(Box::new(context.open(target).await?), chain),
        ChosenTarget::Registry(target) => {
            let namespace = match chain {
                Some(Chain::Operator) => return Err(operators_only("lists the chain `*`")),
                Some(Chain::Namespace(namespace)) => Some(namespace),
                None => None,
            };
            let api = Api::new(target, Permission::CreateGrant, namespace.clone(), context.now)?;
            Source::Api(Box::new(api), namespace)
        }
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    // What happens after this moment is for `--follow`.
    let mut seen = source.ends().await?;
    let reading = Box::pin(source.latest(&filter, limit));
    let events = spinning("reading the events", reading).await?;
    if events.len() >= limit && !args.follow {
        notice(format_args!(
            "these are the latest {limit} events; hint: use `--limit` or `--until`"
        ));
    }
    for event in &events {
        let last = seen.entry(event.chain().to_owned()).or_default();
        *last = event.seq().max(*last);
    }
    if !args.follow {
        let rows: Vec<_> = events.iter().map(KeptEvent::row).collect();
        let objects: Vec<Value> = events.iter().map(KeptEvent::json).collect();
        return context.output.rows("audit events", &HEADER, &rows, &objects.into());
    }
    let print = |event: &KeptEvent| context.output.each(&event.row(), &event.json());
    events.iter().try_for_each(print)?;
    loop {
        pause().await;
        let now = context.clock.now();
        for event in source.news(&filter, &mut seen, now).await? {
            print(&event)?;
        }
    }
}

/// Waits between two looks of `--follow`.
async fn pause() {
    tokio::time::sleep(FOLLOW).await;
}

impl Source {
    /// Returns the number of the last event of each chain. The API does not say it.
    async fn ends(&self) -> Result<HashMap<String, u64>, CommandError> {
        let Self::Store(open, chain) = self else { return Ok(HashMap::new()) };
        let heads = open.store.audit_heads().await?;
        let wanted = |of: &Chain| chain.as_ref().is_none_or(|chain| chain == of);
        let heads = heads.into_iter().filter(|head| wanted(&head.chain));
        Ok(heads.map(|head| (head.chain.as_str().to_owned(), head.seq)).collect())
    }

    /// Returns the latest events, in order of time.
    async fn latest(
        &self,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, CommandError> {
        let mut latest = BTreeMap::new();
        let mut add = |event: KeptEvent| {
            latest.insert(event.place(), event);
            if latest.len() > limit {
                latest.pop_first();
            }
        };
        match self {
            Self::Store(open, chain) => {
                let chains = match chain {
                    Some(chain) => vec![chain.clone()],
                    None => {
                        let heads = open.store.audit_heads().await?;
                        heads.into_iter().map(|head| head.chain).collect()
                    }
                };
                for chain in chains {
                    let (mut before, mut count) = (u64::MAX, 0);
                    while count < limit {
                        let links = open.store.audit_page_before(&chain, before, PAGE).await?;
                        let Some(last) = links.last() else { break };
                        before = last.seq;
                        let events =
                            links.iter().filter_map(|link| KeptEvent::parse(link.body.as_deref()));
                        for event in events.filter(|event| filter.has(event)) {
                            count += 1;
                            add(event);
                        }
                    }
                }
            }
            Self::Api(api, namespace) => {
                let (mut cursor, mut count) = (None, 0);
                loop {
                    let page = page(api, namespace.as_ref(), filter, cursor.take()).await?;
                    count += page.events.len();
                    page.events.into_iter().for_each(&mut add);
                    match page.next_cursor {
                        // Of several namespaces, the next one can have later events.
                        Some(next) if namespace.is_none() || count < limit => cursor = Some(next),
                        _ => break,
                    }
                }
            }
        }
        Ok(latest.into_values().collect())
    }

    /// Returns the events that are not seen yet, in order of time, and marks them.
    async fn news(
        &self,
        filter: &EventFilter,
        seen: &mut HashMap<String, u64>,
        now: i64,
    ) -> Result<Vec<KeptEvent>, CommandError> {
        let mut news = Vec::new();
        match self {
            Self::Store(open, _) => {
                for (name, end) in self.ends().await? {
                    let last = seen.entry(name.clone()).or_default();
                    let Some(chain) = Chain::parse_stored(&name) else { continue };
                    while *last < end {
                        let links = open.store.audit_page(&chain, *last, PAGE).await?.links;
                        let Some(newest) = links.last() else { break };
                        *last = newest.seq;
                        let events =
                            links.iter().filter_map(|link| KeptEvent::parse(link.body.as_deref()));
                        news.extend(events.filter(|event| filter.has(event)));
                    }
                }
            }
            Self::Api(api, namespace) => {
                let since = now.saturating_sub(LOOK_BACK).max(filter.since.unwrap_or(i64::MIN));
                let filter = EventFilter { since: Some(since), ..filter.clone() };
                let mut cursor = None;
                loop {
                    let page = page(api, namespace.as_ref(), &filter, cursor.take()).await?;
                    news.extend(page.events);
                    cursor = page.next_cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                news.retain(|event| event.seq() > seen.get(event.chain()).copied().unwrap_or(0));
                for event in &news {
                    let last = seen.entry(event.chain().to_owned()).or_default();
                    *last = event.seq().max(*last);
                }
            }
        }
        news.sort_by_cached_key(KeptEvent::place);
        Ok(news)
    }
}

async fn page(
    api: &Api,
    namespace: Option<&Namespace>,
    filter: &EventFilter,
    cursor: Option<String>,
) -> Result<Page, CommandError> {
    let query = [
        ("namespace", namespace.map(ToString::to_string)),
        ("principal", filter.principal.as_ref().map(ToString::to_string)),
        ("since", filter.since.map(rfc3339)),
        ("until", filter.until.map(rfc3339)),
        ("cursor", cursor),
    ];
    let query: Vec<_> =
        query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    api.read_query("/v1/audit", &query).await
}

/// Prints the newest head of each chain that the audit key signed. Exit code 1 if a record is another.
async fn head(context: &Context, args: &AuditHead) -> CommandResult {
    let wanted = args.namespace.as_deref().map(chain).transpose()?;
    let OpenStore { store, .. } = context.open(&args.store).await?;
    let stored = spinning("reading the heads", store.signed_heads(wanted.as_ref())).await?;
    let key = store.audit_key().await?;
    let mut latest: BTreeMap<&str, &SignedHead> = BTreeMap::new();
    let mut is_whole = true;
    for signed in &stored {
        match signed.in_place() {
            Some(head) if head.is_signed_by(key.as_slice()) => {
                let last = latest.entry(&signed.chain).or_insert(head);
                if head.statement.seq > last.statement.seq {
                    *last = head;
                }
            }
            // After the loss of a key, the ends of old segments stay under it.
            Some(head) if head.is_intact() && head.statement.sealed_at.is_some() => {}
            Some(_) if key.is_some() => {
                is_whole = false;
                notice(format_args!(
                    "the audit key did not sign the signed head of event {} of chain `{}`",
                    signed.seq, signed.chain
                ));
            }
            Some(_) => {}
            None => {
                is_whole = false;
                notice(format_args!(
                    "the signed head of event {} of chain `{}` is damaged",
                    signed.seq, signed.chain
                ));
            }
        }
    }
    if latest.is_empty() {
        let reason = match key {
            None => "the store has no audit key, so nothing is signed",
            Some(_) => "no head is signed yet",
        };
        let hint = match args.store.is_folder() {
            true => "start the broker, which creates the key, and signs each minute",
            false => "give `--audit-key KEY`, and the same key to the broker",
        };
        return Err(CommandError::refused(reason).hint(hint));
    }
    latest.values().try_for_each(|head| context.output.raw_line(&head.to_json()))?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn expire(context: &Context, args: &AuditExpire) -> Result<(), CommandError> {
    if args.audit_days == 0 {
        return Err(CommandError::refused("`--audit-days 0` keeps all events, so nothing expires"));
    }
    let before = context.now.saturating_sub(i64::from(args.audit_days).saturating_mul(DAY));
    let OpenStore { store, operator } = match args.dry_run {
        true => context.open(&args.store).await?,
        false => context.open_to_change(&args.store).await?,
    };
    let trusted = trusted(&store, &args.keys.public_key).await?;
    let Some(host) = registry(&store, args.keys.host.as_deref()).await? else {
        return Err(CommandError::refused("nothing says of which registry the signed heads are")
            .hint("give `--host HOST`, with the host of the brokers"));
    };
    let store = store.for_registry(host);
    let (mut done, mut problems): (Vec<ExpiredEvents>, Vec<String>) = Default::default();
    for (name, _) in store.audit_chains().await? {
        let Some(chain) = Chain::parse_stored(&name) else { continue };
        match store.expired_events(&operator, &trusted, &chain, before).await? {
            Ok(None) => {}
            Ok(Some(expired)) => {
                if !args.dry_run {
                    let mut event = event(Kind::Expire, &operator);
                    event.resource(expired.to_string());
                    let kept = kept(&event, context);
                    let removing = Box::pin(store.expire_events(&operator, &expired, &kept));
                    let removed = spinning("removing events", removing).await;
                    record(event, removed, |_| Outcome::Deleted)?;
                }
                done.push(expired);
            }
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    problems.dedup();
    let row = |expired: &ExpiredEvents| {
        vec![
            expired.chain.to_string(),
            expired.from.to_string(),
            expired.to.to_string(),
            expired.segments.to_string(),
            rfc3339(expired.ended_at),
        ]
    };
    let object = |expired: &ExpiredEvents| {
        json!({
            "chain": expired.chain.as_str(), "from": expired.from, "to": expired.to,
            "segments": expired.segments, "ended_at": rfc3339(expired.ended_at),
            "removed": !args.dry_run,
        })
    };
    context.output.rows(
        &format!("expired events older than {} days", args.audit_days),
        &["chain", "from", "to", "segments", "ended at"],
        &done.iter().map(row).collect::<Vec<_>>(),
        &done.iter().map(object).collect::<Vec<_>>().into(),
    )?;
    match problems.as_slice() {
        [] => Ok(()),
        problems => Err(CommandError::refused(problems.join("; "))),
    }
}
