//! What the fuzz target `arn` tries on names of principals; no part of the service.

use super::{AwsPrincipal, Principal, parse_caller_arn, parse_typed};
use crate::fuzz::{Verdict, is_plain};

/// As AWS's word on a caller, as what an administrator typed, and as what was stored.
pub fn arn(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Rejected };
    let mut verdict = Verdict::Rejected;
    if let Ok(caller) = parse_caller_arn(text) {
        verdict = Verdict::Accepted;
        assert_eq!(
            caller.principal.as_str(),
            named_by_hand(text),
            "the name is the ARN's own and no other's"
        );
        assert!(caller.principal.is_concrete() && caller.principals().count() <= 3);
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
                assert!(text.contains(account), "an account is never made up");
                assert_eq!(
                    typed.needs_confirmation,
                    matches!(typed.principal, Principal::Account(_))
                );
                // A notice may name the path, which may be of 512 bytes.
                let halves = |notice: &String| notice.split("was dropped").all(is_plain);
                assert!(typed.notices.iter().all(halves), "{:?}", typed.notices);
            }
            Err(error) => assert!(is_plain(&error.to_string()) && is_plain(error.hint())),
        }
    }
    if let Ok(principal) = Principal::parse_stored(text) {
        verdict = Verdict::Accepted;
        assert_eq!(principal.as_str(), text, "a principal has one text");
        // Nobody types a service's own role, and nobody calls as one: such a row is read and lets nobody in.
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

/// The canonical name of a caller's ARN that is known to be good, put together a second time.
fn named_by_hand(arn: &str) -> String {
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
