//! The internal event, `{"stile":{"internal":"tick","v":1}}`, with which a schedule invokes the
//! function.
//!
//! It has no field except that one. Every event of a gateway, a load balancer or a function URL has
//! others, which no client can take out: what a client sends is inside of them. So only a caller who
//! may invoke the function itself can send it.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::event_sender::Sent;

/// The most bytes of a tick, so that no large event is parsed for this.
const MAX_TICK: usize = 100;

/// Returns whether the whole event is a tick.
pub(super) fn is_tick(event: &RawValue) -> bool {
    let text = event.get();
    text.len() <= MAX_TICK
        && serde_json::from_str::<Value>(text)
            .is_ok_and(|event| event == json!({"stile": {"internal": "tick", "v": 1}}))
}

/// Returns the answer to a tick, which the log of an operator's test shows.
pub(super) fn answer(sent: Sent) -> Value {
    let Sent { delivered, failed, dropped, unfinished } = sent;
    json!({
        "delivered": delivered, "failed": failed, "dropped": dropped, "unfinished": unfinished,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(event: &Value) -> bool {
        is_tick(&serde_json::value::to_raw_value(event).unwrap())
    }

    #[test]
    fn only_an_event_with_nothing_else_is_a_tick() {
        let stile = json!({"internal": "tick", "v": 1});
        for event in [
            json!(null),
            json!([]),
            json!({}),
            json!({"stile": null}),
            json!({"stile": {}}),
            json!({"stile": {"internal": "tick"}}),
            json!({"stile": {"internal": "tick", "v": 2}}),
            json!({"stile": {"internal": "tick", "v": "1"}}),
            json!({"stile": {"internal": "sweep", "v": 1}}),
            json!({"stile": {"internal": "tick", "v": 1, "x": 1}}),
            json!({"stile": stile, "headers": {}}),
            json!({"stile": stile, "requestContext": null}),
            json!({"stile": stile, "type": null}),
            json!({"body": {"stile": stile}}),
            json!([{"stile": stile}]),
            json!([["tick", 1]]),
            json!([stile]),
        ] {
            assert!(!is(&event), "{event}");
        }
        assert!(is(&json!({"stile": stile})));
    }
}
