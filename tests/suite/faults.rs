//! Every service that a broker depends on fails, in every way, at every step of every flow. The
//! broker answers "down" and never "no", does nothing by halves, and works again without a restart.
//!
//! A step is one AWS call of a healthy run of the flow. From that step on every call fails, retries
//! included. The test finds the steps itself, so it also covers a step that is added later.
//!
//! One call is best effort: the record of a refused exchange. Its failure changes no answer, as
//! `explain_request.rs` shows.

use stile_tests::aws::proxy::Fault;
use stile_tests::broker::{Backend, TestBroker};
use stile_tests::time_limits::past_deadlines;

use crate::faults_flows::{Flow, FlowAnswer, Registry};

/// More calls than any flow makes, retries included.
const STEPS: usize = 30;

fn is_down(answer: &FlowAnswer, what: &str) {
    assert_eq!(answer.status, 503, "{what}");
    assert!((1..=5).contains(&answer.retry_after.parse::<i64>().unwrap_or_default()), "{what}");
    for secret in ["stile_v4", "127.0.0.1", "Welcome"] {
        assert!(!answer.text.contains(secret), "{what}");
    }
}

/// Makes every call fail from each step of the flow on, in each of these ways, and then repairs it.
/// The flow has no more steps when nothing has failed.
async fn each_step_of(flow: Flow, registry: &Registry, faults: &[Fault]) {
    for step in 0..STEPS {
        for fault in faults {
            let case = registry.case(flow).await;
            registry.proxy().inject("", step.., fault.clone());
            let answer = within_patience(registry, fault, case.run()).await;
            let calls = registry.proxy().take_names();
            let what = format!(
                "{flow:?}, {fault:?} from step {step} on, which called {calls:?}: {answer:?}"
            );
            let Some(_in_trouble) = calls.get(step) else {
                assert!(step > 0 && answer.status < 300, "{what}");
                registry.proxy().repair();
                return;
            };
            if case.is_over(&calls, step) {
                assert!(answer.status < 300, "{what}");
            } else {
                is_down(&answer, &what);
            }
            if step == 0 {
                let ready = case.process.get_anonymously("/readyz");
                let ready: FlowAnswer = within_patience(registry, fault, ready).await.into();
                is_down(&ready, &format!("{what}, readiness: {ready:?}"));
            }
            registry.proxy().repair();
            case.is_whole(&what).await;
            if !case.is_over(&calls, step) {
                case.works_again(&what, fault).await;
            }
        }
    }
    unreachable!("{flow:?} has no end");
}

/// Returns the outcome of work while calls fail. If they hang, the clock jumps to the deadlines.
async fn within_patience<T>(
    registry: &Registry,
    fault: &Fault,
    work: impl Future<Output = T>,
) -> T {
    if fault.takes_long() {
        past_deadlines(registry.proxy().next_stuck(), work).await.0
    } else {
        work.await
    }
}

/// Runs all flows at once, since each waits between its attempts.
async fn every_flow_outlives(faults: Vec<Fault>) {
    let Some(registries) = Registry::for_each_flow().await else { return };
    let flows = registries.iter().map(|(flow, registry)| each_step_of(*flow, registry, &faults));
    futures_util::future::join_all(flows).await;
}

/// Runs one flow after the other, since all share the clock that jumps.
async fn every_flow_outlives_its_deadlines(fault: Fault) {
    let Some(registries) = Registry::for_each_flow().await else { return };
    for (flow, registry) in &registries {
        each_step_of(*flow, registry, std::slice::from_ref(&fault)).await;
    }
}

#[tokio::test]
async fn aws_that_answers_in_any_wrong_way_is_down_at_every_step_of_every_flow() {
    let Some(elsewhere) = Registry::start().await else { return };
    let redirect = Fault::Redirect(elsewhere.proxy().endpoint());
    let faults = [
        Fault::Close,
        Fault::Fail,
        Fault::Throttle,
        Fault::Portal,
        Fault::Empty,
        Fault::Large,
        redirect,
        Fault::Truncate,
    ];
    every_flow_outlives(faults.into_iter().chain([404, 403].map(page)).collect()).await;
    assert_eq!(elsewhere.proxy().take_names(), [""; 0], "no program follows a redirect");
}

/// An HTML page of a proxy that rejects the request or does not find the page.
fn page(status: u16) -> Fault {
    Fault::Answer {
        status,
        content_type: "text/html",
        body: "<html><body>Welcome to the hotel</body></html>".to_owned(),
    }
}

#[tokio::test]
async fn a_page_in_the_place_of_one_answer_is_down_and_says_of_nothing_that_it_is_not_there() {
    let Some(registry) = Registry::start().await else { return };
    for flow in Flow::ALL {
        let calls = registry.calls(flow).await;
        for (step, call) in calls.iter().enumerate() {
            for fault in [404, 403].map(page) {
                let case = registry.case(flow).await;
                registry.proxy().inject("", step..=step, fault.clone());
                let answer = case.run().await;
                registry.proxy().repair();
                let made = registry.proxy().take_names();
                let what = format!(
                    "{flow:?}, {fault:?} in the place of {call}, number {step} of {calls:?}, which called {made:?}: {answer:?}"
                );
                if case.is_over(&calls, step) {
                    assert!(answer.status < 300, "{what}");
                } else {
                    is_down(&answer, &what);
                }
                case.is_whole(&what).await;
            }
        }
    }
    // Without its bucket, the broker knows nothing about uploads.
    let Some(registry) = Registry::start().await else { return };
    let case = registry.case(Flow::Complete).await;
    registry.proxy().inject("s3 GET", .., Fault::NoBucket);
    is_down(&case.run().await, "there is no bucket");
    registry.proxy().repair();
    assert_eq!(case.run().await.status, 201);
}

#[tokio::test]
async fn aws_that_hangs_is_down_at_every_step_of_every_flow() {
    every_flow_outlives_its_deadlines(Fault::Hang).await;
}

#[tokio::test]
async fn aws_that_hangs_in_the_middle_of_an_answer_is_down_at_every_step_of_every_flow() {
    every_flow_outlives_its_deadlines(Fault::Stall).await;
}

#[tokio::test]
async fn one_hiccup_at_any_step_is_tried_over_and_nobody_notices() {
    let Some(registry) = Registry::start().await else { return };
    for flow in Flow::ALL {
        let calls = registry.calls(flow).await;
        for (step, call) in calls.iter().enumerate() {
            let fault = [Fault::Close, Fault::Fail, Fault::Throttle][step % 3].clone();
            let case = registry.case(flow).await;
            registry.proxy().inject("", step..=step, fault.clone());
            let answer = case.run().await;
            assert!(answer.status < 300, "{flow:?}, {fault:?} once at {call}: {answer:?}");
            case.is_whole("one failure").await;
            registry.proxy().repair();
        }
    }
}

#[tokio::test]
async fn a_broker_that_used_up_its_retries_leaves_those_of_another() {
    let Some(test) = TestBroker::start_on(Backend::Aws).await else { return };
    let Some(other) = TestBroker::start_on(Backend::Aws).await else { return };
    test.aws().proxy.inject("dynamodb", .., Fault::Throttle);
    let mut used_up = false;
    // The SDK allows about a hundred retries of throttled calls without a success.
    while !used_up {
        test.aws().proxy.take_names();
        let checks = (0..20).map(|_| test.store().health_check());
        assert!(futures_util::future::join_all(checks).await.iter().all(Result::is_err));
        let made = test.aws().proxy.take_names();
        used_up = made.iter().filter(|call| call.starts_with("dynamodb")).count() == 20;
    }
    other.aws().proxy.inject("dynamodb", 0..=0, Fault::Throttle);
    other.store().health_check().await.unwrap();
}

#[tokio::test]
async fn each_service_that_is_gone_stops_what_leans_on_it_and_nothing_else() {
    let Some(registry) = Registry::start().await else { return };
    for flow in Flow::ALL {
        let calls = registry.calls(flow).await;
        for service in ["dynamodb", "kms", "s3"] {
            let case = registry.case(flow).await;
            registry.proxy().inject(service, .., Fault::Close);
            let answer = case.run().await;
            let what = format!("{flow:?} without {service}, which calls {calls:?}: {answer:?}");
            if calls.iter().any(|call| call.starts_with(service)) {
                is_down(&answer, &what);
            } else {
                assert!(answer.status < 300, "{what}");
            }
            registry.proxy().repair();
            case.is_whole(&what).await;
        }
    }
    // Finally without any service.
    let case = registry.case(Flow::Mint).await;
    registry.proxy().refuse_connections();
    is_down(&case.run().await, "no service listens");
    is_down(&case.process.get_anonymously("/readyz").await.into(), "no service listens");
    registry.proxy().repair();
    assert_eq!(case.run().await.status, 200);
    assert_eq!(case.process.get_anonymously("/readyz").await.status, 200);
}
