//! Parses the answer of STS to `GetCallerIdentity`, and turns it into the caller's identity.
//!
//! The parser accepts exactly one form of answer.

use roxmltree::{Document, Node};
use stile_protocol::region::Partition;

use stile_core::identity::{Identity, IdentityError, Issuer};

/// The XML namespace of STS answers, for the API version in the request.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The reason why an answer has no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The signature is for another request than the rebuilt one.
    #[error("AWS reports that the signature does not match the request")]
    SignatureMismatch,
    /// The signature is too old for AWS.
    #[error("AWS reports that the signature has expired")]
    SignatureExpired,
    /// AWS does not know the credentials.
    #[error("AWS does not accept the credentials")]
    InvalidCredentials,
    /// The session of the credentials has ended.
    #[error("AWS reports that the credentials have expired")]
    ExpiredCredentials,
    /// The broker does not support this kind of identity.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The answer is not an answer of STS.
    #[error("the answer of STS is malformed: {0}")]
    Malformed(&'static str),
    /// The answer contradicts itself or the region.
    #[error("the answer of STS contradicts itself: {0}")]
    Inconsistent(&'static str),
}

const NOT_ONE_OF_EACH: &str = "it does not contain exactly one Account, Arn and UserId";

impl From<IdentityError> for AnswerError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Unsupported(sentence) => Self::Unsupported(sentence),
            IdentityError::Malformed(problem) => Self::Malformed(problem),
            IdentityError::Inconsistent(problem) => Self::Inconsistent(problem),
        }
    }
}

/// The outcome of a request to STS that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Identity(Box<Identity>),
    /// STS is overloaded. One more attempt may succeed.
    Overloaded,
}

/// Parses one answer.
pub(super) fn read(
    status: u16,
    content_type: &str,
    body: &[u8],
    partition: Partition,
) -> Result<Outcome, AnswerError> {
    if status == 200 {
        if content_type.split(';').next().map(str::trim) != Some("text/xml") {
            return Err(AnswerError::Malformed("it is not text/xml"));
        }
        return identity(body, partition).map(|caller| Outcome::Identity(Box::new(caller)));
    }
    let (code, message) = error_of(body);
    match (status, code.as_str()) {
        (_, "SignatureDoesNotMatch") if message.starts_with("Signature expired") => {
            Err(AnswerError::SignatureExpired)
        }
        (_, "SignatureDoesNotMatch") => Err(AnswerError::SignatureMismatch),
        (_, "ExpiredToken" | "ExpiredTokenException") => Err(AnswerError::ExpiredCredentials),
        (_, "InvalidClientTokenId") | (403, _) => Err(AnswerError::InvalidCredentials),
        (429 | 500.., _) | (_, "Throttling" | "ThrottlingException" | "RequestLimitExceeded") => {
            Ok(Outcome::Overloaded)
        }
        _ => Err(AnswerError::Malformed("STS does not use this status")),
    }
}

fn identity(body: &[u8], partition: Partition) -> Result<Identity, AnswerError> {
    let text = std::str::from_utf8(body).map_err(|_| AnswerError::Malformed("it is not UTF-8"))?;
    let document = Document::parse(text).map_err(|_| AnswerError::Malformed("it is not XML"))?;
    let root = only(document.root(), &["GetCallerIdentityResponse"])?;
    let result = only(root, &["GetCallerIdentityResult", "ResponseMetadata"])?;
    let field = |name| -> Result<String, AnswerError> {
        let mut found = result.children().filter(|node| is(node, name));
        match (found.next(), found.next()) {
            (Some(node), None) => text_of(node),
            _ => Err(AnswerError::Malformed(NOT_ONE_OF_EACH)),
        }
    };
    let (account, arn, user_id) = (field("Account")?, field("Arn")?, field("UserId")?);
    if result.children().filter(Node::is_element).count() != 3 {
        return Err(AnswerError::Malformed("its result contains another element"));
    }

    Ok(Identity::from_iam(Issuer::Sts, &account, &arn, &user_id, &[partition])?)
}

/// Returns the first of the named children.
///
/// The first must exist, and each may exist once. The parent may contain white space, and nothing
/// else.
fn only<'a, 'input>(
    parent: Node<'a, 'input>,
    names: &[&str],
) -> Result<Node<'a, 'input>, AnswerError> {
    let malformed = AnswerError::Malformed("it is not a single GetCallerIdentityResponse");
    let mut first = None;
    for child in parent.children() {
        if child.is_text() && child.text().is_some_and(|text| text.trim().is_empty()) {
            continue;
        }
        let Some(at) = names.iter().position(|name| is(&child, name)) else {
            return Err(malformed);
        };
        if parent
            .children()
            .filter(|node| is(node, names.get(at).copied().unwrap_or_default()))
            .count()
            != 1
        {
            return Err(malformed);
        }
        if at == 0 {
            first = Some(child);
        }
    }
    first.ok_or(malformed)
}

fn is(node: &Node<'_, '_>, name: &str) -> bool {
    node.is_element()
        && node.tag_name().namespace() == Some(NAMESPACE)
        && node.tag_name().name() == name
}

fn text_of(node: Node<'_, '_>) -> Result<String, AnswerError> {
    let mut children = node.children();
    match (children.next(), children.next()) {
        (Some(text), None) if text.is_text() => Ok(text.text().unwrap_or_default().to_owned()),
        _ => Err(AnswerError::Malformed(NOT_ONE_OF_EACH)),
    }
}

/// Returns the code and the message of an error document, at any depth. Both are empty if the
/// document cannot be parsed.
fn error_of(body: &[u8]) -> (String, String) {
    let Some(document) = std::str::from_utf8(body).ok().and_then(|text| Document::parse(text).ok())
    else {
        return (String::new(), String::new());
    };
    let text = |name| {
        let found =
            document.descendants().find(|node| node.is_element() && node.tag_name().name() == name);
        found.and_then(|node| node.text()).unwrap_or_default().to_owned()
    };
    (text("Code"), text("Message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc";
    const USER_ID: &str = "AROAEXAMPLEEXAMPLE222:i-0abc";

    fn answer(account: &str, arn: &str, user_id: &str) -> String {
        format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">\n  <GetCallerIdentityResult>\n    <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    \
             <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    <RequestId>x</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
        )
    }

    fn read_200(body: &str) -> Result<Identity, AnswerError> {
        match read(200, "text/xml", body.as_bytes(), Partition::Aws)? {
            Outcome::Identity(caller) => Ok(*caller),
            Outcome::Overloaded => panic!("not overloaded"),
        }
    }

    #[test]
    fn only_a_complete_answer_of_sts_is_accepted() {
        let good = answer("111122223333", ARN, USER_ID);
        let bodies = [
            String::new(),
            "<html><body>Welcome to the hotel</body></html>".to_owned(),
            "{}".to_owned(),
            good.replace(NAMESPACE, "https://evil.org/"),
            good.replace(&format!(" xmlns=\"{NAMESPACE}\""), ""),
            good.replace("<Account>111122223333</Account>", ""),
            good.replace(
                "<Account>111122223333</Account>",
                "<Account>111122223333</Account><Account>111122223333</Account>",
            ),
            good.replace("<Account>111122223333</Account>", "<Account/>"),
            good.replace(
                "<Account>111122223333</Account>",
                "<Account><b>111122223333</b></Account>",
            ),
            good.replace(
                "<Account>111122223333</Account>",
                "<Account>1111<!-- x -->22223333</Account>",
            ),
            good.replace("<Account>", "<Other/><Account>"),
            good.replace("<ResponseMetadata>", "<GetCallerIdentityResult/><ResponseMetadata>"),
            good.replace("<ResponseMetadata>", "<Other/><ResponseMetadata>"),
            format!("{good}{good}"),
            format!("{good}<!-- x -->"),
            format!("{good}x"),
            format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{good}"),
            good.replacen("</GetCallerIdentityResult>", "", 1),
            answer("111122223333", "", USER_ID),
            answer("111122223333", &format!(" {ARN}"), USER_ID),
            answer("111122223333", ARN, "AROA/EXAMPLE:i-0abc"),
        ];
        for body in bodies {
            assert!(matches!(read_200(&body), Err(AnswerError::Malformed(_))), "{body}");
        }
        for content_type in ["", "text/html", "application/json", "text/xmlx", "application/xml"] {
            assert!(
                matches!(
                    read(200, content_type, good.as_bytes(), Partition::Aws),
                    Err(AnswerError::Malformed(_))
                ),
                "{content_type}"
            );
        }
        assert!(matches!(
            read(200, "text/xml", b"\xff", Partition::Aws),
            Err(AnswerError::Malformed(_))
        ));
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_rejected() {
        for (account, arn, user_id) in [
            ("111122223334", ARN, USER_ID),
            ("111122223333", &ARN.replace("aws", "aws-cn"), USER_ID),
            ("111122223333", ARN, "AROAEXAMPLEEXAMPLE222:other"),
            ("111122223333", ARN, "AROAEXAMPLEEXAMPLE222"),
            ("111122223333", ARN, "AIDAEXAMPLEEXAMPLE222:i-0abc"),
            ("111122223333", "arn:aws:iam::111122223333:user/alice", "AROAEXAMPLEEXAMPLE222"),
            ("111122223333", "arn:aws:iam::111122223333:user/alice", "AIDAEXAMPLEEXAMPLE222:x"),
        ] {
            let error = read_200(&answer(account, arn, user_id)).unwrap_err();
            assert!(
                matches!(error, AnswerError::Inconsistent(_)),
                "{account} {arn} {user_id}: {error:?}"
            );
        }
    }

    #[test]
    fn an_unsupported_kind_of_identity_is_not_a_malformed_answer() {
        for (arn, user_id) in [
            ("arn:aws:iam::111122223333:root", "111122223333"),
            ("arn:aws:sts::111122223333:federated-user/bob", "111122223333:bob"),
            (
                "arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc",
                "111122223333:aws:ec2-instance:i-0abc",
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/AWSServiceRoleForSupport/x",
                "AROAEXAMPLEEXAMPLE222:x",
            ),
        ] {
            assert!(
                matches!(
                    read_200(&answer("111122223333", arn, user_id)),
                    Err(AnswerError::Unsupported(_))
                ),
                "{arn}"
            );
        }
    }

    #[test]
    fn a_refusal_of_sts_is_not_an_outage() {
        let error = |code: &str, message: &str| {
            format!(
                "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            )
        };
        for (status, body, expected) in [
            (
                403,
                error("SignatureDoesNotMatch", "The request signature we calculated …"),
                Err(AnswerError::SignatureMismatch),
            ),
            (
                403,
                error("SignatureDoesNotMatch", "Credential should be scoped to a valid region."),
                Err(AnswerError::SignatureMismatch),
            ),
            (
                403,
                error("SignatureDoesNotMatch", "Signature expired: 2026 is now earlier than …"),
                Err(AnswerError::SignatureExpired),
            ),
            (403, error("InvalidClientTokenId", ""), Err(AnswerError::InvalidCredentials)),
            (400, error("ExpiredToken", ""), Err(AnswerError::ExpiredCredentials)),
            (403, error("AccessDenied", ""), Err(AnswerError::InvalidCredentials)),
            (403, "<html>".to_owned(), Err(AnswerError::InvalidCredentials)),
            (400, error("Throttling", ""), Ok(Outcome::Overloaded)),
            (429, String::new(), Ok(Outcome::Overloaded)),
            (500, String::new(), Ok(Outcome::Overloaded)),
            (503, String::new(), Ok(Outcome::Overloaded)),
        ] {
            for content_type in ["text/xml", "text/html"] {
                assert_eq!(
                    read(status, content_type, body.as_bytes(), Partition::Aws),
                    expected,
                    "{status} {body}"
                );
            }
        }
        for status in [201, 204, 301, 302, 400, 401, 404] {
            assert!(
                matches!(
                    read(status, "text/xml", b"", Partition::Aws),
                    Err(AnswerError::Malformed(_))
                ),
                "{status}"
            );
        }
    }

    #[test]
    fn a_valid_answer_is_the_identity_of_the_caller() {
        let caller = read_200(&answer("111122223333", ARN, USER_ID)).unwrap();
        assert_eq!(caller.principal().to_string(), "aws:111122223333:role/deploy");
        assert_eq!(caller.unique_id().unwrap().as_str(), "AROAEXAMPLEEXAMPLE222");
        assert_eq!(caller.session(), Some("i-0abc"));
    }
}
