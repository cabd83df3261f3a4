//! Keeps a record of each refused exchange, within limits, so that an operator can explain it later.

use super::broker::Broker;
use super::refused_exchange_limits::Standing;
use stile_core::grants::{PrincipalState, Refusal};
use stile_core::identity::Identity;
use stile_core::refused_exchange::RefusedExchange;
use stile_protocol::exchange::RequestDocument;
use stile_protocol::request_id::RequestId;

/// What the record of a refusal has, apart from the refusal itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusedRequest<'a> {
    /// The id of the request.
    pub(super) request_id: &'a RequestId,
    /// The region of the proof, if the caller sent one.
    pub(super) region: Option<&'a str>,
    /// The requested scope.
    pub(super) document: &'a RequestDocument,
}

/// Keeps the record of a refusal, if the caller is below its limits.
///
/// It is best effort: without the record, the answer is the same, and the audit log has the refusal in
/// any case. It ends before the answer, because a function stops after it.
pub(super) async fn keep(
    broker: &Broker,
    request: RefusedRequest<'_>,
    caller: &Identity,
    state: &PrincipalState,
    refusal: &Refusal,
    now: i64,
) {
    let RefusedRequest { request_id, region, document } = request;
    let refused = RefusedExchange::new(request_id.clone(), caller, region, document, refusal, now);
    let limits = &broker.refused_exchange_limits;
    let Some(counted) = limits.count(&refused, Standing::of(state), now) else { return };
    if let Err(error) = broker.store.keep_refused_exchange(refused).await {
        limits.give_back(counted);
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the store did not keep the record of a refused exchange"
        );
    }
}
