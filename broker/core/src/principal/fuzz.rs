//! The fuzz target `arn`: parses principals in every supported form. Not part of the service.

use super::{AwsPrincipal, Principal, parse_caller_arn, parse_typed};
use crate::fuzz::{Verdict, is_plain};

/// Parses the input as a caller ARN from AWS, as operator input, and as a stored principal.
pub fn arn(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Rejected };
    let mut verdict = Verdict::Rejected;
    if let Ok(caller) = parse_caller_arn(text) {
        verdict = Verdict::Accepted;
        assert_eq!(
            caller.principal.as_str(),
            expected_text(text),
            "the principal contains exactly the names in the ARN"
        );
        assert!(caller.principal.is_caller() && caller.principals().count() <= 3);
        for principal in caller.principals() {
            is_canonical(principal);
            assert_eq!(
                principal.aws().map(|aws| (aws.partition(), aws.account())),
                Some((caller.partition, caller.account.as_str()))
            );
        }
        assert_eq!(caller.session_name.is_some(), matches!(caller.principal, Principal::Role(_)));
    }
    for exact in [false, true] {
        match parse_typed(text, exact) {
            Ok(typed) => {
                verdict = Verdict::Accepted;
                is_canonical(&typed.principal);
                let account = typed.principal.aws().map_or("", AwsPrincipal::account);
                assert!(text.contains(account), "the account comes from the input");
                assert_eq!(
                    typed.needs_confirmation,
                    matches!(typed.principal, Principal::Account(_) | Principal::AwsGroup(_))
                );
                // A notice may contain the path, which may have 512 bytes.
                let halves = |notice: &String| notice.split("is ignored").all(is_plain);
                assert!(typed.notices.iter().all(halves), "{:?}", typed.notices);
            }
            Err(error) => assert!(is_plain(&error.to_string()) && is_plain(error.hint())),
        }
    }
    if let Ok(principal) = Principal::parse_stored(text) {
        verdict = Verdict::Accepted;
        assert_eq!(principal.as_str(), text, "a principal has exactly one canonical text");
        // A stored service-linked role is readable but harmless: the broker accepts no such caller.
        if let Ok(typed) = parse_typed(text, false) {
            assert_eq!(typed.principal, principal);
        }
    }
    verdict
}

fn is_canonical(principal: &Principal) {
    assert_eq!(Principal::parse_stored(principal.as_str()).as_ref(), Ok(principal));
    assert_eq!(
        parse_typed(principal.as_str(), false).map(|typed| typed.principal).as_ref(),
        Ok(principal)
    );
}

/// Builds the canonical text of a valid caller ARN, independently of the parser.
fn expected_text(arn: &str) -> String {
    let parts: Vec<&str> = arn.split(':').collect();
    let resource: Vec<&str> =
        parts.last().map(|resource| resource.split('/').collect()).unwrap_or_default();
    match (parts.as_slice(), resource.as_slice()) {
        (["arn", partition, "sts", "", account, _], ["assumed-role", role, _]) => {
            format!("{partition}:{account}:role/{role}")
        }
        (["arn", partition, "iam", "", account, _], ["user", .., name]) => {
            format!("{partition}:{account}:user/{name}")
        }
        _ => String::new(),
    }
}
