//! Checks what the registry allows: the exchange, an authorised call, the grants, one namespace.

use reqwest::StatusCode;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permissions};
use terraform_credentials_stile::config::TokenScope;
use terraform_credentials_stile::message::chain;
use terraform_credentials_stile::token::{self, Token, TokenError};

use crate::doctor::cure::HostCheck;
use crate::doctor::report::DoctorReport;
use crate::verb::{VerbFailure, block_on};
use crate::whoami::{self, Survey, WhoamiReply};

/// The steps of this file, in the order of the report. The last one runs only for a namespace.
const STEPS: [&str; 4] = ["exchange", "authorised call", "grants", "namespace"];

/// Why a step asks for no token of its own.
const GOOD_ONCE: &str = "not checked, because a registry accepts each JWT of the job once";

/// A caller with credentials, and the namespace that the user asks about.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccessCheck<'a> {
    /// The host.
    pub(super) host: HostCheck<'a>,
    /// The namespace, if the user names one.
    pub(super) namespace: Option<&'a Namespace>,
}

/// The tokens that the registry issues to the caller.
enum Issued {
    /// One for the permissions that Terraform uses.
    ForTerraform(Token),
    /// None for these, and the refusal. But at least one for another permission.
    ForOthers(Box<WhoamiReply>, VerbFailure),
}

/// Notes the steps that cannot run from this one on.
pub(super) fn skip_from(first: usize, namespace: Option<&Namespace>, report: &mut DoctorReport) {
    let last = if namespace.is_some() { STEPS.len() } else { STEPS.len() - 1 };
    report.skip(&STEPS[first..last]);
}

impl AccessCheck<'_> {
    /// Runs all steps.
    pub(super) fn run(&self, report: &mut DoctorReport) {
        let [exchange, call, ..] = STEPS;
        let mut survey = Survey::default();
        let issued = block_on(self.exchange(&mut survey));
        let Some(issued) = report.step_with(exchange, issued, Issued::describe) else {
            note_undecided(&survey, report);
            return skip_from(1, self.namespace, report);
        };
        let is_reader = matches!(issued, Issued::ForTerraform(_));
        let known = match issued {
            Issued::ForTerraform(token) => {
                let called = block_on(self.authorised_call(&token));
                let Some((_, mut known)) = report.step_with(call, called, |(text, _)| text.clone())
                else {
                    return skip_from(2, self.namespace, report);
                };
                survey = self.survey_other_permissions();
                if !self.mints_freely() {
                    report.note("other permissions", GOOD_ONCE);
                }
                if let Some(others) = survey.known.take() {
                    known.merge(others);
                }
                known
            }
            Issued::ForOthers(known, refused) => {
                let text = format!("the registry accepts a token of `{}`", known.principal);
                report.step(call, Ok(text));
                report.note("Terraform", &format!("gets no token, because {refused}"));
                *known
            }
        };
        note_undecided(&survey, report);
        self.report_grants(&known, is_reader, report);
        if let Some(namespace) = self.namespace {
            if !self.mints_freely() {
                return report.note(STEPS[3], GOOD_ONCE);
            }
            let needed = if is_reader {
                vec![self.host.registry.permissions]
            } else {
                known.permissions.iter().map(|it| Permissions::NONE.with(it)).collect()
            };
            report.step(STEPS[3], block_on(self.check_namespace(namespace, &needed)));
        }
    }

    /// Gets a token for Terraform. Without a grant for it, asks for each other permission.
    async fn exchange(&self, survey: &mut Survey) -> Result<Issued, VerbFailure> {
        let HostCheck { typed, registry, .. } = self.host;
        let refused = match self.mint(&registry.scope()).await {
            Err(error) if error.is_no_grant() => error,
            Err(error) => return Err(self.failure(error).await),
            Ok(token) => return Ok(Issued::ForTerraform(token)),
        };
        *survey = whoami::survey(typed, registry, whoami::others(registry.permissions)).await;
        let failure = self.no_grant(refused).await;
        match survey.known.take() {
            Some(known) => Ok(Issued::ForOthers(Box::new(known), failure)),
            None => Err(failure),
        }
    }

    /// Completes the operator's command in the refusal of a token for every namespace.
    async fn no_grant(&self, refused: TokenError) -> VerbFailure {
        let registry = self.host.registry;
        if let Some(namespace) = self.namespace.filter(|_| self.mints_freely()) {
            // For one namespace, the hint of the registry names it.
            let scope = scope(namespace, registry.permissions, registry.ttl);
            let narrow = self.mint(&scope).await.err().filter(TokenError::is_no_grant);
            return self.failure(narrow.unwrap_or(refused)).await;
        }
        let mut failure = self.failure(refused).await;
        let explained = |hint| format!("{hint}; NAMESPACE is the first part of a module's address");
        failure.hint = failure.hint.map(explained);
        failure
    }

    /// Tries the cached token, which Terraform would get, or else the new one.
    async fn authorised_call(&self, new: &Token) -> Result<(String, WhoamiReply), VerbFailure> {
        let HostCheck { typed, registry, .. } = self.host;
        let (scope, environment) = (registry.scope(), &typed.environment);
        let accepted = |known: WhoamiReply, which: &str| {
            (format!("the registry accepts the {which} token of `{}`", known.principal), known)
        };
        let Some(cached) = token::cached(registry, &scope, environment, typed.clock).await? else {
            return Ok(accepted(whoami::identify(typed, registry, new).await?, "new"));
        };
        let response = whoami::request(typed, registry, &cached).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(accepted(whoami::parse(&response)?, "cached"));
        }
        token::forget(registry, &scope, environment)?;
        let rejected = "the registry rejected the cached token, now deleted";
        match whoami::identify(typed, registry, new).await {
            Ok(known) => {
                let (text, known) = accepted(known, "new");
                Ok((format!("{rejected}; {text}"), known))
            }
            Err(failure) => Err(failure.context(rejected)),
        }
    }

    /// Asks for each permission that Terraform's token does not have.
    fn survey_other_permissions(&self) -> Survey {
        let HostCheck { typed, registry, .. } = self.host;
        let others = whoami::all_without(registry.permissions);
        // The failure of one permission is in the survey, so this fails only without a runtime.
        block_on(async { Ok(whoami::survey(typed, registry, others).await) }).unwrap_or_default()
    }

    fn report_grants(&self, known: &WhoamiReply, is_reader: bool, report: &mut DoctorReport) {
        let lines = known.grant_lines(self.host.typed.clock.now());
        let outcome = match lines.len() {
            0 => Err(VerbFailure::new(format!("`{}` has no grants", known.principal)).hint(format!(
                "ask an operator for `stile-admin grant create --principal {} --namespace {} --download`",
                known.principal,
                self.namespace.map_or("NAMESPACE", Namespace::as_str)
            ))),
            count if is_reader && known.grants.iter().all(|grant| grant.namespace != "*") => {
                Ok(format!("{count}; Terraform gets `403 Forbidden` on any other namespace"))
            }
            count => Ok(count.to_string()),
        };
        report.step(STEPS[2], outcome);
        for line in lines {
            report.detail(&line);
        }
    }

    /// Asks for a token for one namespace, with one of these sets of permissions.
    ///
    /// The registry decides, because only it knows every reason for a refusal.
    async fn check_namespace(
        &self,
        namespace: &Namespace,
        needed: &[Permissions],
    ) -> Result<String, VerbFailure> {
        let mut refused = None;
        let mut granted = Permissions::NONE;
        for permissions in needed {
            let scope = scope(namespace, *permissions, self.host.registry.ttl);
            match self.mint(&scope).await {
                Ok(_) => granted = granted.union(*permissions),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if granted.is_empty() => Err(self.failure(error).await),
            _ => Ok(format!("the registry allows `{granted}` on `{namespace}`")),
        }
    }

    /// Tells whether a check may ask for more than one token.
    fn mints_freely(&self) -> bool {
        token::mints_freely(self.host.registry)
    }

    async fn mint(&self, scope: &TokenScope) -> Result<Token, TokenError> {
        let HostCheck { typed, registry, .. } = self.host;
        token::mint(registry, scope, &typed.environment, typed.clock).await
    }

    async fn failure(&self, error: TokenError) -> VerbFailure {
        let hint = self.host.token(&error).await;
        VerbFailure { message: chain(&error), hint }
    }
}

impl Issued {
    fn describe(&self) -> String {
        match self {
            Self::ForTerraform(token) => {
                let expiry = token.expiry_text();
                let mut text =
                    format!("got a token for `{}`, valid until {expiry}", token.principal);
                for notice in [token.clock_notice(), token.lifetime_notice()].into_iter().flatten()
                {
                    text = format!("{text}; {notice}");
                }
                text
            }
            Self::ForOthers(known, _) => {
                format!("got a token for `{}`, only for `{}`", known.principal, known.permissions)
            }
        }
    }
}

fn scope(namespace: &Namespace, permissions: Permissions, ttl: i64) -> TokenScope {
    TokenScope { ttl, namespaces: Namespaces::List(vec![namespace.clone()]), permissions }
}

fn note_undecided(survey: &Survey, report: &mut DoctorReport) {
    for (permission, failure) in &survey.undecided {
        report.note(&format!("grants for `{permission}`"), &format!("not known: {failure}"));
    }
}
