//! Every bad and edge input of the corpus on this store: the answer, the calls, and the log.

#[tokio::test]
async fn every_bad_and_edge_input_is_answered_as_it_must_be_and_costs_no_more_than_it_may() {
    crate::attacks::run(super::BACKEND).await;
}

#[tokio::test]
async fn every_bad_and_edge_jwt_is_answered_as_it_must_be_and_costs_no_more_than_it_may() {
    crate::attacks::jwt::run(super::BACKEND).await;
}
