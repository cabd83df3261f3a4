//! Runs every bad and edge input of the corpus on a store, and checks that no entry is missing.
//!
//! Inputs that data can express are in `tests/fixtures/attacks/`, one file for each section. The
//! others are functions in `shown`, which a case names. The test searches every answer for secrets
//! and counts every call.

mod archive;
mod file;
mod forge;
mod ground;
mod input;
pub(crate) mod jwt;
mod shown;
mod text;

use std::collections::BTreeSet;
use std::io::Write as _;

use stile_tests::broker::{Backend, Place};

use file::Case;
use ground::Ground;
use shown::SHOWN;

/// The numbers of the corpus, which are not consecutive.
const LINES: [u16; 112] = [
    1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 30, 31,
    32, 33, 34, 35, 37, 38, 39, 40, 41, 44, 45, 46, 47, 48, 49, 50, 51, 55, 57, 58, 59, 60, 61, 63,
    64, 65, 66, 68, 69, 70, 71, 72, 73, 75, 78, 79, 81, 83, 84, 85, 86, 87, 88, 90, 91, 95, 96, 97,
    99, 100, 101, 102, 103, 104, 106, 107, 108, 110, 111, 112, 113, 114, 115, 117, 118, 119, 122,
    123, 125, 126, 127, 128, 130, 132, 133, 134, 135, 136, 148, 149, 150, 151, 152, 153, 154, 155,
];

/// The numbers of cases that are not from the corpus: inputs that Stile itself once accepted.
const OWN_LINES: [u16; 13] = [201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 211, 212, 213];

/// The number of sections that run at once, each on its own thread because a journal records one
/// thread. More sections overload the emulator.
const LANES: usize = 3;

#[derive(Default)]
struct Tally {
    cases: usize,
    inputs: usize,
    shown: usize,
    problems: Vec<String>,
}

/// Runs the whole corpus on that store, and prints how much it ran.
pub(crate) async fn run(backend: Backend) {
    if Place::new(backend).await.is_none() {
        return;
    }
    let sections = file::read();
    let written = sections.iter().flat_map(|(_, cases)| cases);
    let written: (usize, usize, usize) = written.fold((0, 0, 0), |sum, case| {
        (
            sum.0 + 1,
            sum.1 + case.inputs.iter().map(|input| input.times.unwrap_or(1)).sum::<usize>(),
            sum.2 + usize::from(case.shown_by.is_some()),
        )
    });
    let mut lanes: [Vec<(String, Vec<Case>)>; LANES] = Default::default();
    for (at, section) in sections.into_iter().enumerate() {
        lanes[at % LANES].push(section);
    }
    let running = lanes.map(|lane| {
        on_a_thread(move || async move {
            let mut tallies = Vec::new();
            for (name, cases) in lane {
                tallies.push(section(backend, name, cases).await);
            }
            tallies
        })
    });
    let mut sum = Tally::default();
    for thread in running {
        let broken = |panic: Box<dyn std::any::Any + Send>| {
            vec![Tally { problems: vec![words(panic.as_ref())], ..Tally::default() }]
        };
        for tally in thread.join().unwrap_or_else(broken) {
            sum.cases += tally.cases;
            sum.inputs += tally.inputs;
            sum.shown += tally.shown;
            sum.problems.extend(tally.problems);
        }
    }
    let run = (sum.cases, sum.inputs, sum.shown);
    let _ = writeln!(
        std::io::stderr(),
        "attack cases on the {backend:?} store: {} of {} cases, {} of {} inputs, {} of {} separate tests",
        run.0,
        written.0,
        run.1,
        written.1,
        run.2,
        written.2
    );
    assert!(
        sum.problems.is_empty(),
        "{} problems:\n{}",
        sum.problems.len(),
        sum.problems.join("\n")
    );
    assert_eq!(run, written, "the suite ran every case of the corpus");
}

fn on_a_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> std::thread::JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
    })
}

async fn section(backend: Backend, name: String, cases: Vec<Case>) -> Tally {
    let mut tally = Tally::default();
    let common = Ground::plain(backend).await;
    for case in &cases {
        let said = |problem: String| format!("{name} {} ({}): {problem}", case.line, case.what);
        tally.cases += 1;
        let own = match &case.world {
            Some(world) => Ground::new(backend, world).await,
            None => None,
        };
        let ground = own.as_ref().unwrap_or(&common);
        for [principal, namespace, permissions] in &case.grants {
            let permissions: Vec<_> =
                permissions.split(',').map(|permission| permission.parse().unwrap()).collect();
            ground.test.grant(principal, namespace, &permissions).await;
        }
        for (at, input) in case.inputs.iter().enumerate() {
            tally.inputs += input.times.unwrap_or(1);
            let problems = input::send(ground, input, &case.must).await;
            tally
                .problems
                .extend(problems.into_iter().map(|problem| said(format!("input {at}: {problem}"))));
        }
        if let Some(shown_by) = &case.shown_by {
            tally.shown += 1;
            let show = SHOWN.iter().find(|(name, _)| name == shown_by).map(|(_, show)| *show);
            match show.map(|show| on_a_thread(move || show(backend)).join()) {
                Some(Ok(())) => {}
                Some(Err(panic)) => tally.problems.push(said(words(panic.as_ref()))),
                None => tally.problems.push(said(format!("there is no `{shown_by}`"))),
            }
        }
    }
    tally
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "it failed".to_owned())
}

#[test]
fn every_line_of_the_list_has_a_case_and_every_case_a_line() {
    let cases: Vec<Case> = file::read().into_iter().flat_map(|(_, cases)| cases).collect();
    let written: BTreeSet<u16> = cases.iter().map(|case| case.line).collect();
    let expected: BTreeSet<u16> = LINES.into_iter().chain(OWN_LINES).collect();
    assert_eq!(written, expected);
    assert!(LINES.is_sorted() && LINES.iter().all(|line| *line <= 200), "201 is the first of ours");
    for case in &cases {
        assert!(
            !case.inputs.is_empty() || case.shown_by.is_some(),
            "line {} does nothing",
            case.line
        );
    }
    let named: BTreeSet<&str> = cases.iter().filter_map(|case| case.shown_by.as_deref()).collect();
    assert_eq!(
        named,
        SHOWN.iter().map(|(name, _)| *name).collect(),
        "cases name every function, and every named function exists"
    );
}
