//! `audit verify`: compares the kept events with their hashes, with the signed heads, and with heads
//! from outside of the store.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::ExitCode;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use stile_core::audit::chain::{Hash, SEGMENT_EVENTS};
use stile_core::audit::{
    Chain, Fault, Head, HeadKey, HeadStatement, MAX_SIGNED_HEAD, Segment, SignedHead, StoredLink,
    Verifier,
};
use stile_core::clock::{parse_rfc3339, rfc3339};
use stile_store::{Store, StoreErrorKind, StoredSignedHead};

use super::audit_chain::{DAY, chain, registry, trusted};
use super::{CommandResult, Context, OpenStore};
use crate::cli::AuditVerify;
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::events_bar;

/// The events that one read of the store gets.
const PAGE: usize = 500;

/// The most bytes of a line that are read. A line of a log has a signed head in it, with each quote
/// escaped.
const MAX_LINE: usize = 2 * MAX_SIGNED_HEAD + 1024;

/// The longest time between an event and the signature over it, in seconds. A broker signs each minute.
/// Without it, a chain whose signed heads were removed would look like one that is not signed yet.
const SIGNED_WITHIN: i64 = 3600;

/// What a run found.
#[derive(Default)]
struct Findings {
    events: u64,
    chains: usize,
    /// The signed heads in the store.
    signed: usize,
    /// The chains without a signed head that counts.
    unsigned: usize,
    faults: Vec<(Chain, String)>,
    expired: Vec<(Chain, HeadStatement)>,
}

/// What a chain is compared with.
struct Proofs<'a> {
    /// The registry whose heads count. `None` if nothing says it.
    host: Option<&'a str>,
    trusted: &'a [HeadKey],
    /// The heads from outside of the store.
    outside: &'a [SignedHead],
    /// Events that ended from this time on may not have expired, in Unix seconds.
    keep_from: i64,
    /// Events up to this time must be under a signature, in Unix seconds.
    signed_until: i64,
}

/// Verifies the chains. Exit code 1 if there is a fault.
pub(super) async fn run(context: &Context, args: &AuditVerify) -> CommandResult {
    let wanted = args.namespace.as_deref().map(chain).transpose()?;
    let OpenStore { store, .. } = context.open(&args.store).await?;
    let trusted = trusted(&store, &args.keys.public_key).await?;
    let host = registry(&store, args.keys.host.as_deref()).await?;
    let host = host.as_ref().map(|host| host.as_str());
    let mut outside = OutsideHeads::default();
    for file in &args.head {
        outside.read(file, host, &trusted, wanted.as_ref())?;
    }
    let keep = i64::from(args.audit_days).saturating_mul(DAY);
    let keep_from = if keep == 0 { i64::MIN } else { context.now.saturating_sub(keep) };
    let proofs = Proofs {
        host,
        trusted: &trusted,
        outside: &outside.heads,
        keep_from,
        signed_until: context.now.saturating_sub(SIGNED_WITHIN),
    };
    let bar = events_bar();
    let findings = verify(&store, wanted.as_ref(), &proofs, &bar).await;
    bar.finish_and_clear();
    if trusted.is_empty() && findings.as_ref().is_ok_and(|findings| findings.signed == 0) {
        notice(
            "the store has no audit key, so no head is signed: a chain that was written again is not found",
        );
    }
    report(context, &findings?, &outside.faults)
}

fn report(context: &Context, findings: &Findings, lines: &[String]) -> CommandResult {
    let Findings { events, chains, faults, expired, unsigned, .. } = findings;
    for line in lines {
        context.output.line(line)?;
    }
    for (chain, fault) in faults {
        context.output.line(format_args!("chain `{chain}`: {fault}"))?;
    }
    for (chain, head) in expired {
        context.output.line(format_args!(
            "chain `{chain}`: events up to {} have expired; the last was of {}",
            head.seq,
            rfc3339(head.ended_at().unwrap_or_default())
        ))?;
    }
    let summary =
        format!("read {events} events of {chains} chains: {} faults", faults.len() + lines.len());
    let line = |fault: &String| json!({ "chain": null, "fault": fault });
    let object =
        |(chain, fault): &(Chain, String)| json!({ "chain": chain.as_str(), "fault": fault });
    let gone = |(chain, head): &(Chain, HeadStatement)| json!({ "chain": chain.as_str(), "to": head.seq, "ended_at": head.ended_at().map(rfc3339) });
    context.output.outcome(
        summary,
        &json!({
            "events": events, "chains": chains, "signed": *unsigned == 0,
            "faults": lines.iter().map(line).chain(faults.iter().map(object)).collect::<Vec<Value>>(),
            "expired": expired.iter().map(gone).collect::<Vec<Value>>(),
        }),
    )?;
    Ok(if faults.is_empty() && lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The heads from outside of the store, and the lines that are no proof.
#[derive(Default)]
struct OutsideHeads {
    heads: Vec<SignedHead>,
    faults: Vec<String>,
    /// Those that are there already: a file has a head that did not move once for each copy.
    seen: HashSet<(Chain, u64, Hash)>,
}

impl OutsideHeads {
    /// Reads the heads in a file: lines of `audit head`, or of a JSON log. A line that proves nothing
    /// is a fault, and the others still count.
    fn read(
        &mut self,
        file: &Path,
        host: Option<&str>,
        trusted: &[HeadKey],
        wanted: Option<&Chain>,
    ) -> Result<(), CommandError> {
        let shown = file.display();
        let failed =
            |error| CommandError::failed_because(format_args!("cannot read `{shown}`"), &error);
        let mut reader = BufReader::new(File::open(file).map_err(failed)?);
        let (mut number, mut has_one) = (0_usize, false);
        while let Some(line) = next_line(&mut reader).map_err(failed)? {
            number += 1;
            // A longer line of a log is about something else.
            let Line::Whole(bytes) = line else { continue };
            let fault = |problem: &str| format!("`{shown}`, line {number}: {problem}");
            let Ok(text) = String::from_utf8(bytes) else {
                self.faults.push(fault("it is not text"));
                continue;
            };
            let Some(text) = head_of(&text).filter(|text| !text.trim().is_empty()) else {
                continue;
            };
            match counted(&text, host, trusted) {
                Ok(head) if wanted.is_none_or(|wanted| *wanted == head.statement.chain) => {
                    has_one = true;
                    let HeadStatement { chain, seq, hash, .. } = &head.statement;
                    if self.seen.insert((chain.clone(), *seq, *hash)) {
                        self.heads.push(head);
                    }
                }
                Ok(_) => {}
                Err(problem) => self.faults.push(fault(&problem)),
            }
        }
        match (has_one, wanted) {
            (true, _) => {}
            (false, None) => self.faults.push(format!("`{shown}` has no signed head")),
            (false, Some(chain)) => {
                self.faults.push(format!("`{shown}` has no signed head of chain `{chain}`"));
            }
        }
        Ok(())
    }
}

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Reads one line. It keeps at most [`MAX_LINE`] bytes of it, so that a wrong file does not fill the
/// memory.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    if reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.len() < MAX_LINE || bytes.ends_with(b"\n") {
        return Ok(Some(Line::Whole(bytes)));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}

/// Parses a head, if it proves something: a trusted key signed it, for this registry. Returns the
/// reason otherwise.
fn counted(text: &str, host: Option<&str>, trusted: &[HeadKey]) -> Result<SignedHead, String> {
    let head = SignedHead::parse(text.trim()).map_err(|error| error.to_string())?;
    if !head.is_intact() {
        return Err("the signature does not match, so the head was changed".to_owned());
    }
    let of = &head.statement.host;
    if let Some(host) = host.filter(|host| of != host) {
        return Err(format!("it is a head of registry `{of}`, and not of `{host}`"));
    }
    if !trusted.contains(&head.key) {
        return Err(format!(
            "the audit key of this registry did not sign it, but `{}`; hint: if that is an earlier \
             key that you trust, repeat with `--public-key`",
            head.key_id
        ));
    }
    Ok(head)
}

/// Returns the signed head in a line. `None` for a line of a log about something else.
fn head_of(line: &str) -> Option<String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
        return Some(line.to_owned());
    };
    match (fields.get("event").and_then(Value::as_str), fields.get("head").and_then(Value::as_str))
    {
        (Some("audit_head"), Some(head)) => Some(head.to_owned()),
        (Some(_), _) => None,
        (None, _) if fields.contains_key("level") => None,
        (None, _) => Some(line.to_owned()),
    }
}

async fn verify(
    store: &Store,
    wanted: Option<&Chain>,
    proofs: &Proofs<'_>,
    bar: &ProgressBar,
) -> Result<Findings, CommandError> {
    let heads = store.audit_chains().await?;
    let signed = store.signed_heads(wanted).await?;
    let mut findings = Findings { signed: signed.len(), ..Findings::default() };
    let mut chains: BTreeMap<Chain, Option<Result<Head, String>>> = BTreeMap::new();
    for stored in signed.iter().filter_map(|stored| Chain::parse_stored(&stored.chain)) {
        chains.insert(stored, None);
    }
    for head in proofs.outside {
        chains.insert(head.statement.chain.clone(), None);
    }
    for (name, head) in heads {
        let Some(chain) = Chain::parse_stored(&name) else {
            let fault = format!("the name `{name}` of a head is that of no chain");
            findings.faults.push((Chain::Operator, fault));
            continue;
        };
        chains.insert(chain, Some(head.map_err(|error| error.to_string())));
    }
    if let Some(wanted) = wanted {
        chains.retain(|chain, _| chain == wanted);
    }
    findings.chains = chains.len();
    for (chain, head) in chains {
        let of_chain = |signed: &[StoredSignedHead]| -> Vec<StoredSignedHead> {
            let of = signed.iter().filter(|stored| stored.chain == chain.as_str());
            of.cloned().collect()
        };
        let mut found =
            verify_chain(store, &chain, head.clone(), &of_chain(&signed), proofs, bar).await?;
        // An expiry during the run removes events that the run then misses: it starts again.
        if !found.faults.is_empty() && first_of(store, &chain).await != found.first {
            let signed = store.signed_heads(Some(&chain)).await?;
            found = verify_chain(store, &chain, head, &of_chain(&signed), proofs, bar).await?;
        }
        findings.events = findings.events.saturating_add(found.events);
        findings.unsigned += usize::from(!found.is_signed);
        findings.expired.extend(found.expired.map(|head| (chain.clone(), head)));
        findings.faults.extend(found.faults.into_iter().map(|fault| (chain.clone(), fault)));
    }
    Ok(findings)
}

/// Returns the number of the first event of a chain. `None` if there is none, or it cannot be read.
async fn first_of(store: &Store, chain: &Chain) -> Option<u64> {
    store.audit_page(chain, 0, 1).await.ok()?.links.first().map(|link| link.seq)
}

/// What a run found in one chain.
#[derive(Default)]
struct Found {
    events: u64,
    first: Option<u64>,
    /// Whether the chain has a signed head that counts.
    is_signed: bool,
    faults: Vec<String>,
    expired: Option<HeadStatement>,
}

async fn verify_chain(
    store: &Store,
    chain: &Chain,
    head: Option<Result<Head, String>>,
    signed: &[StoredSignedHead],
    proofs: &Proofs<'_>,
    bar: &ProgressBar,
) -> Result<Found, CommandError> {
    let mut found = Found::default();
    let mut proved: Vec<&HeadStatement> = Vec::new();
    for stored in signed {
        match problem(stored, proofs) {
            Some(problem) => {
                found.faults.push(format!("the signed head of event {} {problem}", stored.seq));
            }
            None => proved.extend(stored.in_place().map(|signed| &signed.statement)),
        }
    }
    found.is_signed = !proved.is_empty();
    let head = match head {
        Some(Err(error)) => {
            found.faults.push(format!("its head cannot be read: {error}"));
            None
        }
        Some(Ok(head)) => Some(Some(head)),
        None => Some(None),
    };
    let mut links = match read_page(store, chain, 0, &mut found).await? {
        Some(links) => links,
        None => return Ok(found),
    };
    found.first = links.first().map(|link| link.seq);
    let first = found.first.unwrap_or(1);
    let (start, expired) = start_of(chain, first, &proved);
    if let Some(expired) = expired {
        let ends = proved.iter().filter(|head| head.seq <= expired.seq);
        let ended_at = ends.filter_map(|head| head.ended_at()).max().unwrap_or_default();
        if ended_at >= proofs.keep_from {
            found.faults.push(format!(
                "events up to {} are gone, and the last was only of {}",
                expired.seq,
                rfc3339(ended_at)
            ));
        }
        found.expired = Some(expired.clone());
    }
    let is_cut = first > start.seq.saturating_add(1);
    let outside = proofs.outside.iter().map(|signed| &signed.statement);
    let outside: Vec<_> = outside.filter(|head| head.chain == *chain).collect();
    // The start is signed, and its event has expired. A head from outside can still say otherwise.
    if outside.iter().any(|head| head.seq == start.seq && head.hash != start.hash) {
        found.faults.push(Fault::HeadMismatch { seq: start.seq }.to_string());
    }
    let mut signatures = Signatures::new(&proved, &start, proofs);
    let mut verifier = Verifier::after(start);
    for statement in proved.iter().chain(&outside) {
        verifier.expect(statement.seq, statement.hash);
    }
    if let Some(Some(head)) = &head {
        verifier.expect(head.seq, head.hash);
    }
    let mut first_fault = is_cut && proved.iter().any(|head| is_end(head) && head.seq >= first);
    while let Some(last) = links.last().map(|link: &StoredLink| link.seq) {
        for link in &links {
            for fault in verifier.check(link) {
                let hint = match std::mem::take(&mut first_fault) {
                    true => "; if an expiry was stopped, repeat `stile-admin audit expire`",
                    false => "",
                };
                found.faults.push(format!("{fault}{hint}"));
            }
            found.faults.extend(signatures.check(link));
        }
        let count = u64::try_from(links.len()).unwrap_or_default();
        found.events = found.events.saturating_add(count);
        bar.inc(count);
        links = match read_page(store, chain, last, &mut found).await? {
            Some(links) => links,
            None => return Ok(found),
        };
    }
    let last = verifier.last();
    found.faults.extend(verifier.finish().as_ref().map(Fault::to_string));
    match head {
        Some(None) if last > 0 => found.faults.push("the head of the chain is missing".to_owned()),
        Some(Some(head)) if last > head.seq => {
            // A writer can have appended events during the run, and the head moves with them.
            let now = store.audit_head(chain).await.map_or(head.seq, |head| head.seq);
            if last > now {
                found.faults.push(format!(
                    "event {last} is after the head of the chain, which is event {now}"
                ));
            }
        }
        _ => {}
    }
    Ok(found)
}

/// Reads a page of events. `None` if it cannot be read, which is a fault of the chain.
async fn read_page(
    store: &Store,
    chain: &Chain,
    after: u64,
    found: &mut Found,
) -> Result<Option<Vec<StoredLink>>, CommandError> {
    match store.audit_page(chain, after, PAGE).await {
        Ok(page) => {
            let strays = page.strays.into_iter().map(|key| Fault::Stray { key }.to_string());
            found.faults.extend(strays);
            Ok(Some(page.links))
        }
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            found.faults.push(format!("the events after event {after} cannot be read: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Demands signed heads: a writer to the store can remove those that show what it did.
struct Signatures {
    /// The numbers of the signed ends of segments.
    ends: HashSet<u64>,
    /// The last event under a signature.
    last: u64,
    /// The segment of the event before, its number, and the number of the segment's first event.
    before: Option<(u64, u64, u64)>,
    /// Where the chain starts.
    start: u64,
    /// Whether there is a key, so that signatures can be there.
    demands: bool,
    /// Whether an event is named that no signature is after.
    is_named: bool,
    /// Events up to this time must be under a signature, in Unix seconds.
    signed_until: i64,
}

impl Signatures {
    fn new(proved: &[&HeadStatement], start: &Head, proofs: &Proofs<'_>) -> Self {
        let demands = !proofs.trusted.is_empty();
        Self {
            ends: proved.iter().filter(|head| is_end(head)).map(|head| head.seq).collect(),
            last: proved.iter().map(|head| head.seq).max().unwrap_or_default(),
            before: None,
            start: start.seq,
            demands,
            is_named: false,
            signed_until: proofs.signed_until,
        }
    }

    /// Returns which signature is missing at this event.
    fn check(&mut self, link: &StoredLink) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.demands {
            return faults;
        }
        let is_old = time_of(link).is_none_or(|at| at <= self.signed_until);
        let first = match self.before {
            Some((segment, _, first)) if segment == link.segment => first,
            Some((segment, last, _)) => {
                if is_old && !self.ends.contains(&last) {
                    faults.push(format!(
                        "segment {segment} ended at event {last} without a signature"
                    ));
                }
                link.seq
            }
            None => link.seq,
        };
        if link.seq.saturating_sub(first) == SEGMENT_EVENTS {
            faults.push(format!("segment {} has more events than a segment has", link.segment));
        }
        self.before = Some((link.segment, link.seq, first));
        if link.seq > self.last.max(self.start) && is_old && !self.is_named {
            self.is_named = true;
            faults.push(format!("no signature is at or after event {}", link.seq));
        }
        faults
    }
}

/// Returns the time of an event. `None` if it cannot be read.
fn time_of(link: &StoredLink) -> Option<i64> {
    let fields: Value = serde_json::from_str(link.body.as_deref()?).ok()?;
    parse_rfc3339(fields.get("time")?.as_str()?)
}

/// Returns why a signed head of the store proves nothing.
fn problem(stored: &StoredSignedHead, proofs: &Proofs<'_>) -> Option<String> {
    let Some(signed) = stored.in_place() else {
        return Some(match &stored.read {
            Err(error) => format!("cannot be read: {error}"),
            Ok(_) => "was moved: it is of another place".to_owned(),
        });
    };
    if proofs.trusted.is_empty() {
        return Some(
            "cannot be verified without the audit key; hint: give `--audit-key`".to_owned(),
        );
    }
    if !signed.is_intact() {
        return Some("was changed: its signature does not match".to_owned());
    }
    if proofs.host.is_some_and(|host| signed.statement.host != host) {
        return Some(format!("is of registry `{}`", signed.statement.host));
    }
    (!proofs.trusted.contains(&signed.key)).then(|| {
        format!("has the signature of another key, `{}`; hint: see `--public-key`", signed.key_id)
    })
}

fn is_end(head: &HeadStatement) -> bool {
    head.sealed_at.is_some()
}

/// Returns where a chain starts whose first event has this number, and what has expired before it.
///
/// Only the signed end of a segment is a start. Otherwise, the events before the first are missing.
fn start_of<'a>(
    chain: &Chain,
    first: u64,
    proved: &[&'a HeadStatement],
) -> (Head, Option<&'a HeadStatement>) {
    let ends = proved.iter().copied().filter(|head| is_end(head) && head.seq < first);
    let Some(end) = ends.max_by_key(|head| head.seq).filter(|_| first > 1) else {
        return (Head::empty(chain.clone()), None);
    };
    let segment = Segment { number: end.segment, first_seq: 0, started_at: 0 };
    let start = Head { chain: chain.clone(), seq: end.seq, hash: end.hash, segment };
    (start, Some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(seq: u64, sealed_at: Option<i64>) -> HeadStatement {
        HeadStatement {
            host: "registry.example.com".to_owned(),
            chain: Chain::Operator,
            seq,
            hash: [7; 32],
            segment: 1,
            sealed_at,
            time: 0,
        }
    }

    #[test]
    fn a_chain_starts_only_after_the_signed_end_of_a_segment() {
        let (end, later, inside) =
            (statement(500, Some(1)), statement(1000, Some(2)), statement(700, None));
        let proved = [&end, &inside, &later];
        for (first, expected) in [(1, 0), (2, 0), (501, 500), (701, 500), (900, 500), (1001, 1000)]
        {
            assert_eq!(start_of(&Chain::Operator, first, &proved).0.seq, expected, "{first}");
        }
        assert_eq!(start_of(&Chain::Operator, 501, &[]).0.seq, 0);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let text = [b"a\n".to_vec(), vec![b'x'; 3 * MAX_LINE], b"\nb".to_vec()].concat();
        let mut reader = BufReader::new(text.as_slice());
        for expected in [Line::Whole(b"a\n".to_vec()), Line::TooLong, Line::Whole(b"b".to_vec())] {
            assert_eq!(next_line(&mut reader).unwrap(), Some(expected));
        }
        assert_eq!(next_line(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_line_is_a_head_or_a_line_of_a_log() {
        let log = r#"{"timestamp":"x","level":"INFO","v":1,"event":"audit_head","head":"{}","target":"audit"}"#;
        assert_eq!(head_of(log).as_deref(), Some("{}"));
        for other in [r#"{"event":"grant","v":1}"#, r#"{"level":"INFO","message":"x"}"#] {
            assert_eq!(head_of(other), None, "{other}");
        }
        for head in [r#"{"v":1}"#, "damaged", "[]", r#"{"v":1,"head":"x"}"#] {
            assert_eq!(head_of(head).as_deref(), Some(head));
        }
    }
}
