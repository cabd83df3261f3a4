//! `trust`: creates, changes, lists, shows and deletes trusts in the store.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::principal::{LocalName, Principal};
use stile_core::trust::{
    AwsAccounts, AwsCallers, Condition, ConditionError, DEFAULT_MAX_AGE, IssuerUrl, MAX_TRUSTS,
    NamedOwner, PublicIssuer, Rule, TermsError, Trust, TrustTerms, aws_issuers, issuer_keys,
};
use stile_store::{TrustChange, TrustCreated, TrustUpdated};
use terraform_credentials_stile::message::one_line;

use super::trust_delete::{absent, delete, name_of};
use super::{CommandResult, Context, OpenStore, event, kept, record};
use crate::cli::{TrustConditions, TrustCreate, TrustOne, TrustUpdate, TrustVerb};
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// The most bytes of a file of keys that the program reads. The rules of the keys have a lower limit.
const MAX_FILE: u64 = 1 << 20;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: TrustVerb) -> CommandResult {
    match verb {
        TrustVerb::Create(args) => create(context, args).await?,
        TrustVerb::Update(args) => update(context, args).await?,
        TrustVerb::List(store) => list(context, store).await?,
        TrustVerb::Show(args) => show(context, args).await?,
        TrustVerb::Delete(args) => delete(context, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(context: &Context, args: TrustCreate) -> Result<(), CommandError> {
    let name = name_of(&args.name)?;
    let aws = aws_callers(&args)?;
    let terms = TrustTerms {
        issuer: match (&args.issuer, &aws) {
            (Some(text), _) => issuer(text)?,
            (None, Some(AwsCallers { of: AwsAccounts::Organization(partition, _), .. })) => {
                aws_issuers(*partition).ok_or_else(|| refused(&TermsError::NoAwsIssuer))?
            }
            (None, _) => return Err(CommandError::usage("`--issuer` is missing")),
        },
        aws,
        audience: args.audience,
        conditions: conditions(&args.conditions)?,
        max_age: args.max_age.as_deref().map_or(Ok(DEFAULT_MAX_AGE), max_age)?,
        keys: args.jwks.as_deref().map(keys).transpose()?,
    };
    terms.check().map_err(|error| refused(&error))?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::Trust, &operator);
    event.trust(&name, &terms);
    let kept = kept(&event, context);
    let created = store.create_trust(&operator, name.clone(), terms.clone(), &kept).await;
    match record(event, created, |created| match created {
        TrustCreated::Done(_) => Outcome::Created,
        TrustCreated::Exists(trust) if trust.terms() == terms => Outcome::Unchanged,
        TrustCreated::Exists(_) | TrustCreated::Refused(_) => Outcome::Conflict,
        TrustCreated::TooMany => Outcome::Full,
    })? {
        TrustCreated::Done(trust) => {
            by_name_only(&trust);
            let believes = match &trust.aws {
                None => format!("which is the principal `oidc:{name}`"),
                Some(_) => "whose callers are roles and users of AWS".to_owned(),
            };
            context.output.outcome(
                format_args!("created the trust `{name}`, {believes}"),
                &with_status("created", &trust),
            )
        }
        TrustCreated::Exists(trust) if trust.terms() == terms => context.output.outcome(
            format_args!("unchanged: the trust `{name}` already exists"),
            &with_status("unchanged", &trust),
        ),
        TrustCreated::Exists(_) => Err(CommandError::refused(format!(
            "there is a different trust `{name}` already"
        ))
        .hint(format!(
            "`{} {name}` shows it, and `{} {name}` changes it",
            args.store.command("trust show"),
            args.store.command("trust update")
        ))),
        TrustCreated::TooMany => Err(CommandError::refused(format!(
            "the registry has {MAX_TRUSTS} trusts, and cannot have more"
        ))),
        TrustCreated::Refused(error) => Err(refused(&error)),
    }
}

async fn update(context: &Context, args: TrustUpdate) -> Result<(), CommandError> {
    let name = name_of(&args.name)?;
    let conditions = conditions(&args.conditions)?;
    let change = TrustChange {
        issuer: args.issuer.as_deref().map(issuer).transpose()?,
        audience: args.audience.map(Some).or(args.no_audience.then_some(None)),
        conditions: (!conditions.is_empty()).then_some(conditions),
        max_age: args.max_age.as_deref().map(max_age).transpose()?,
        without_pin: args.without_pin,
        keys: match args.jwks.as_deref() {
            Some(file) => Some(Some(keys(file)?)),
            None => args.no_jwks.then_some(None),
        },
    };
    if change == TrustChange::default() {
        return Err(CommandError::usage("the update has no changes")
            .hint("add what the trust should believe, such as `--claim NAME=VALUE`"));
    }
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::Trust, &operator);
    event.about(&Principal::trust(&name));
    let kept = kept(&event, context);
    let updated = store.update_trust(&operator, &name, &change, &kept).await;
    if let Ok(TrustUpdated::Done { before, after }) = &updated {
        event.trust_changed(before, after);
    }
    match record(event, updated, |updated| match updated {
        TrustUpdated::Done { .. } => Outcome::Changed,
        TrustUpdated::Unchanged(_) => Outcome::Unchanged,
        TrustUpdated::Absent => Outcome::Absent,
        TrustUpdated::Refused(_) => Outcome::Conflict,
    })? {
        TrustUpdated::Done { after, .. } => {
            by_name_only(&after);
            context.output.outcome(
                format_args!("updated the trust `{name}`, and ended its tokens"),
                &with_status("updated", &after),
            )
        }
        TrustUpdated::Unchanged(trust) => context.output.outcome(
            format_args!("unchanged: the trust `{name}` is like this already"),
            &with_status("unchanged", &trust),
        ),
        TrustUpdated::Absent => Err(absent(&name, &args.store)),
        TrustUpdated::Refused(error) => Err(refused(&error)),
    }
}

async fn list(context: &Context, target: StoreTarget) -> Result<(), CommandError> {
    let OpenStore { store, operator } = context.open(&target).await?;
    let trusts = spinning("reading the trusts", store.trusts()).await?;
    let unreadable = store.unreadable_trusts(&operator).await?;
    let row = |trust: &Trust| {
        vec![
            trust.name.to_string(),
            trust.issuer.to_string(),
            flags(trust).join(" "),
            trust.created_by.clone(),
            rfc3339(trust.changed_at),
        ]
    };
    let unreadable_row = |name: &Option<LocalName>| {
        let name = name.as_ref().map_or_else(String::new, ToString::to_string);
        vec![name, "unreadable".to_owned(), String::new(), String::new(), String::new()]
    };
    let unreadable_object = |name: &Option<LocalName>| json!({ "trust": name.as_ref().map(LocalName::as_str), "unreadable": true });
    let rows = trusts.iter().map(row).chain(unreadable.iter().map(unreadable_row));
    let objects = trusts.iter().map(object).chain(unreadable.iter().map(unreadable_object));
    context.output.rows(
        "trusts",
        &["trust", "issuer", "conditions", "created by", "changed at"],
        &rows.collect::<Vec<_>>(),
        &objects.collect::<Vec<_>>().into(),
    )
}

async fn show(context: &Context, args: TrustOne) -> Result<(), CommandError> {
    let name = name_of(&args.name)?;
    let OpenStore { store, operator } = context.open(&args.store).await?;
    let trust = store.trust(&operator, &name).await?;
    let trust = trust.ok_or_else(|| absent(&name, &args.store))?;
    let host = || "the registry's host".to_owned();
    let principal = match &trust.aws {
        None => trust.principal().to_string(),
        Some(_) => "the role or user of AWS that the JWT names".to_owned(),
    };
    let mut lines = vec![
        ("trust", name.to_string()),
        ("principal", principal),
        ("id", trust.id.as_str().to_owned()),
        ("revision", trust.revision.to_string()),
        ("issuer", trust.issuer.to_string()),
        ("audience", trust.audience.clone().unwrap_or_else(host)),
    ];
    lines.extend(flags(&trust).into_iter().map(|flag| ("condition", flag)));
    let keys = if trust.keys.is_some() { "from a file" } else { "the issuer's own" };
    lines.extend([
        ("max age", format!("{} s", trust.max_age)),
        ("keys", keys.to_owned()),
        ("created by", one_line(&trust.created_by)),
        ("created at", rfc3339(trust.created_at)),
        ("changed at", rfc3339(trust.changed_at)),
    ]);
    let lines: Vec<String> =
        lines.into_iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    context.output.outcome(lines.join("\n"), &object(&trust))
}

fn issuer(text: &str) -> Result<IssuerUrl, CommandError> {
    text.parse().map_err(|error| {
        CommandError::usage(format!("`--issuer {}`: {error}", one_line(text)))
            .hint("copy it from the claim `iss`, or from `issuer` in the discovery document")
    })
}

fn conditions(args: &TrustConditions) -> Result<Vec<Condition>, CommandError> {
    let parse = |flag: &str, text: &str, parsed: Result<Condition, ConditionError>| {
        parsed
            .map_err(|error| CommandError::usage(format!("`--{flag} {}`: {error}", one_line(text))))
    };
    let equals = args.equals.iter().map(|text| parse("claim", text, Condition::equals(text)));
    let prefix =
        args.prefix.iter().map(|text| parse("claim-prefix", text, Condition::prefix(text)));
    let contains =
        args.contains.iter().map(|text| parse("claim-contains", text, Condition::contains(text)));
    equals.chain(prefix).chain(contains).collect()
}

fn max_age(text: &str) -> Result<i64, CommandError> {
    let duration = humantime::parse_duration(text).map_err(|_| {
        CommandError::usage(format!("`--max-age {}` is not a duration", one_line(text)))
            .hint("write it as `90m` or `4h`")
    })?;
    // One that is too long for the type is too long for a trust as well.
    Ok(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

/// Reads the keys of an issuer. The errors have nothing of the file, which can contain a private key.
fn keys(file: &Path) -> Result<String, CommandError> {
    let name = file.display();
    let mut text = String::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| CommandError::failed_because(format!("cannot read `{name}`"), &error))?;
    issuer_keys(&text).map_err(|error| {
        CommandError::usage(format!("`{name}` does not have the public keys of an issuer: {error}"))
    })
}

fn refused(error: &TermsError) -> CommandError {
    let refused = CommandError::usage(error.to_string());
    match error {
        TermsError::NoOwner(public) => refused
            .hint(format!("add `--claim {}=ID`", public.ids.first().copied().unwrap_or("sub"))),
        TermsError::NoAwsIssuer => refused.hint(
            "`aws iam get-outbound-web-identity-federation-info` shows the issuer of an account",
        ),
        TermsError::NoAwsCallers => refused.hint("add `--aws-account ID` or `--aws-org ID`"),
        TermsError::NoCondition => refused.hint("add `--claim NAME=VALUE`"),
        TermsError::TooManyConditions
        | TermsError::SameClaim(_)
        | TermsError::RequestTags
        | TermsError::KeysOfOrganization
        | TermsError::Audience
        | TermsError::MaxAge => refused,
    }
}

/// Prints a notice if only names say whose JWTs of a public issuer the trust believes.
fn by_name_only(trust: &Trust) {
    let public = PublicIssuer::of(&trust.issuer);
    let Some(public) = public.filter(|it| it.owner_in(&trust.conditions) == NamedOwner::ByName)
    else {
        return;
    };
    let id = public.ids.first().copied().unwrap_or("sub");
    notice(format_args!(
        "the conditions have only a name of {}, which another owner can have later; \
         hint: add `--claim {id}=ID`",
        public.name
    ));
}

/// Returns which callers of AWS the trust believes, if the flags say so.
fn aws_callers(args: &TrustCreate) -> Result<Option<AwsCallers>, CommandError> {
    let parse = |flag: &str, text: &str, parsed: Option<AwsAccounts>| {
        let wrong = || CommandError::usage(format!("`--{flag} {}` is not one", one_line(text)));
        parsed.ok_or_else(|| {
            wrong().hint("an account has 12 digits, and an organization is like `o-a1b2c3d4e5`")
        })
    };
    let of = match (&args.aws_account, &args.aws_org) {
        (Some(text), _) => Some(parse("aws-account", text, AwsAccounts::account(text))?),
        (None, Some(text)) => Some(parse("aws-org", text, AwsAccounts::organization(text))?),
        (None, None) if args.without_pin => {
            return Err(CommandError::usage("`--without-pin` is for callers of AWS")
                .hint("add `--aws-account ID` or `--aws-org ID`"));
        }
        (None, None) => None,
    };
    Ok(of.map(|of| AwsCallers { of, without_pin: args.without_pin }))
}

/// Returns the conditions as flags, and the callers of AWS.
fn flags(trust: &Trust) -> Vec<String> {
    let flag = |condition: &Condition| match condition.rule {
        Rule::Equals(_) => format!("--claim {condition}"),
        Rule::Prefix(_) => format!("--claim-prefix {condition}"),
        Rule::Contains(_) => format!("--claim-contains {condition}"),
    };
    let aws = trust.aws.iter().flat_map(|aws| {
        let flags = aws.to_string();
        flags.split(' ').map(|flag| format!("--{}", flag.replacen('=', " ", 1))).collect::<Vec<_>>()
    });
    let conditions = trust.conditions.iter().map(flag).map(|flag| one_line(&flag));
    aws.chain(conditions).collect()
}

/// Returns a trust as JSON, with the status of the command.
fn with_status(status: &str, trust: &Trust) -> Value {
    let mut json = object(trust);
    json["status"] = status.into();
    json
}

/// Returns a trust as JSON.
fn object(trust: &Trust) -> Value {
    let condition = |condition: &Condition| {
        let claim = condition.path.as_str();
        match &condition.rule {
            Rule::Equals(value) => json!({ "claim": claim, "equals": value }),
            Rule::Prefix(prefix) => json!({ "claim": claim, "prefix": prefix }),
            Rule::Contains(value) => json!({ "claim": claim, "contains": value }),
        }
    };
    json!({
        "trust": trust.name.as_str(), "principal": trust.principal(), "id": trust.id.as_str(),
        "revision": trust.revision, "issuer": trust.issuer.as_str(), "audience": trust.audience,
        "aws": trust.aws.as_ref().map(ToString::to_string),
        "conditions": trust.conditions.iter().map(condition).collect::<Vec<_>>(),
        "max_age": trust.max_age, "own_keys": trust.keys.is_none(),
        "created_by": trust.created_by, "created_at": rfc3339(trust.created_at),
        "changed_at": rfc3339(trust.changed_at),
    })
}
