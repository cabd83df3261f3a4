//! The record of a refused exchange, from which an operator sees later why the broker refused it.

use serde_json::{Map, Value, json};
use stile_protocol::exchange::{Namespaces, RequestDocument, parse_namespaces, parse_permissions};
use stile_protocol::names::Permissions;
use stile_protocol::request_id::RequestId;

use crate::grants::Refusal;
use crate::identity::Identity;
use crate::principal::{Principal, UniqueId};

/// The time for which the store keeps a record, in seconds: seven days.
pub const REFUSED_EXCHANGE_RETENTION: i64 = 7 * 24 * 3600;

/// The version of the record's format. A reader refuses a newer one.
const VERSION: u64 = 1;

/// An exchange of an authenticated caller that the broker refused.
///
/// It has no token, no key and no signature. Only an [`Identity`] makes one, so nobody without AWS
/// credentials can leave a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedExchange {
    /// The id of the request.
    pub request_id: RequestId,
    /// The time of the refusal, in Unix seconds.
    pub at: i64,
    /// The caller.
    pub principal: Principal,
    /// The caller's unique id.
    pub unique_id: Option<UniqueId>,
    /// The caller's session. The caller can choose any name.
    pub session: Option<String>,
    /// The name of the issuer that authenticated the caller ([`Issuer`](crate::identity::Issuer)).
    pub by: String,
    /// The region of the proof.
    pub region: Option<String>,
    /// The requested namespaces.
    pub namespaces: Namespaces,
    /// The requested permissions.
    pub permissions: Permissions,
    /// The code of the answer.
    pub code: String,
    /// The sentence of the answer.
    pub message: String,
}

impl RefusedExchange {
    /// Creates the record of a refusal at that time, in Unix seconds.
    pub fn new(
        request_id: RequestId,
        caller: &Identity,
        region: Option<&str>,
        document: &RequestDocument,
        refusal: &Refusal,
        at: i64,
    ) -> Self {
        Self {
            request_id,
            at,
            principal: caller.principal().clone(),
            unique_id: caller.unique_id().cloned(),
            session: caller.session().map(str::to_owned),
            by: caller.issuer().as_str().to_owned(),
            region: region.map(str::to_owned),
            namespaces: document.namespaces.clone(),
            permissions: document.permissions,
            code: refusal.code().as_str().to_owned(),
            message: refusal.to_string(),
        }
    }

    /// Returns everything except the id and the time as text, for the store.
    pub fn to_text(&self) -> String {
        json!({
            "v": VERSION,
            "principal": self.principal,
            "unique_id": self.unique_id.as_ref().map(UniqueId::as_str),
            "session": self.session,
            "by": self.by,
            "region": self.region,
            "namespaces": self.namespaces,
            "permissions": self.permissions,
            "code": self.code,
            "message": self.message,
        })
        .to_string()
    }

    /// Reads the text of a record. `None` if it is malformed, or if a newer program wrote it. Fields
    /// that this program does not know make no difference.
    pub fn read(request_id: RequestId, at: i64, text: &str) -> Option<Self> {
        let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
        if fields.get("v")?.as_u64()? > VERSION {
            return None;
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or(Value::Null);
        let namespaces = parse_namespaces("namespaces", take("namespaces")).ok()?;
        let permissions = parse_permissions("permissions", take("permissions")).ok()?;
        let mut text = |name: &str| match take(name) {
            Value::String(text) => Some(text),
            _ => None,
        };
        let unique_id = match text("unique_id") {
            Some(id) => Some(UniqueId::parse(&id)?),
            None => None,
        };
        Some(Self {
            request_id,
            at,
            principal: Principal::parse_stored(&text("principal")?).ok()?,
            unique_id,
            session: text("session"),
            by: text("by")?,
            region: text("region"),
            namespaces,
            permissions,
            code: text("code")?,
            message: text("message")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> RefusedExchange {
        RefusedExchange {
            request_id: RequestId::parse("64ee87ba88f3e21a").unwrap(),
            at: 1000,
            principal: Principal::parse_stored("aws:111122223333:role/deploy").unwrap(),
            unique_id: UniqueId::parse("AROAEXAMPLEEXAMPLE222"),
            session: Some("i-0abc".to_owned()),
            by: "proof".to_owned(),
            region: Some("eu-central-1".to_owned()),
            namespaces: Namespaces::List(vec!["acme".parse().unwrap(), "tools".parse().unwrap()]),
            permissions: Permissions::from_bits(3).unwrap(),
            code: "no_grant".to_owned(),
            message: "`x` has no `download` on namespace `acme`".to_owned(),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_also_with_fields_of_a_newer_program() {
        let whole = refused();
        let least = RefusedExchange {
            unique_id: None,
            session: None,
            region: None,
            namespaces: Namespaces::All,
            ..refused()
        };
        for refused in [whole, least] {
            let (id, text) = (refused.request_id.clone(), refused.to_text());
            let newer = text.replacen('{', r#"{"added":[1],"#, 1);
            for text in [text, newer] {
                assert_eq!(RefusedExchange::read(id.clone(), 1000, &text), Some(refused.clone()));
            }
        }
    }

    #[test]
    fn a_record_that_this_program_does_not_understand_is_none() {
        let text = refused().to_text();
        for (from, to) in [
            (r#""v":1"#, r#""v":2"#),
            (r#""v":1"#, r#""w":1"#),
            ("role/deploy", "role/de ploy"),
            ("AROA", "XROA"),
            (r#"["acme","tools"]"#, "[]"),
            (r#""code":"no_grant","#, ""),
            ("{", "["),
        ] {
            let damaged = text.replacen(from, to, 1);
            assert_ne!(damaged, text, "{from}");
            let id = RequestId::parse("1").unwrap();
            assert_eq!(RefusedExchange::read(id, 0, &damaged), None, "{damaged}");
        }
    }
}
