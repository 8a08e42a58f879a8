//! A prefilter changes what is run, never what is said: a million generated requests are judged by every rule, and
//! each rule that the prefilter leaves out has to say Allow.

mod requests;
mod rules;

use portcullis_engine::prefilter::Scratch;
use portcullis_engine::{Engine, EngineConfig, Limits, Phase, Prefilter, Verdict, WorkerInstance};
use portcullis_view::{Sections, View};

use requests::Generator;

const REQUESTS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    skipped: u64,
    blocked: u64,
    for_nothing: u64,
}

#[test]
fn a_million_requests_get_the_same_verdicts_with_and_without_it() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let engine =
        Engine::new(&EngineConfig { workers: threads * rules::ALL.len(), ..EngineConfig::default() })
            .unwrap();
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let engine = engine.clone();
                scope.spawn(move || judge_all(&engine, (thread as u64..REQUESTS).step_by(threads)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).reduce(Seen::add).unwrap()
    });
    println!("{REQUESTS} requests, {} rules: {seen:?}", rules::ALL.len());
    // Else it would show nothing.
    assert!(
        seen.skipped > REQUESTS && seen.blocked > REQUESTS / 10 && seen.for_nothing > REQUESTS / 100,
        "{seen:?}"
    );
}

fn judge_all(engine: &Engine, seeds: impl Iterator<Item = u64>) -> Seen {
    let mut rules: Vec<WorkerInstance> = rules::ALL
        .iter()
        .map(|rule| WorkerInstance::new(engine.compile(&wat::parse_str(rule.wat()).unwrap()).unwrap()))
        .collect();
    let prefilter =
        Prefilter::new(Phase::Request, rules.iter().map(|rule| &*rule.module().info().describe.prefilter))
            .unwrap();
    assert_eq!(prefilter.unfiltered(), 0);
    let limits =
        Limits { fuel: 10_000_000, deadline: std::time::Duration::from_secs(60), ..Limits::default() };
    let (mut view, mut scratch, mut seen) = (View::new(), Scratch::default(), Seen::default());
    for seed in seeds {
        let request = Generator::new(seed).request();
        request.lay_out(&mut view, Sections::HEAD);
        let candidates = prefilter.candidates(&view, &mut scratch);
        for (index, rule) in rules.iter_mut().enumerate() {
            let verdict = rule.inspect_view(Phase::Request, &view, &[], &limits).unwrap().verdict;
            let stands = candidates.contains(index);
            assert!(
                stands || verdict == Verdict::Allow,
                "request {seed}, rule {index}: {verdict} and no candidate: {request:?}"
            );
            seen.skipped += u64::from(!stands);
            seen.blocked += u64::from(verdict == Verdict::Block);
            seen.for_nothing += u64::from(stands && verdict == Verdict::Allow);
        }
    }
    seen
}

impl Seen {
    fn add(self, other: Self) -> Self {
        Self {
            skipped: self.skipped + other.skipped,
            blocked: self.blocked + other.blocked,
            for_nothing: self.for_nothing + other.for_nothing,
        }
    }
}

#[test]
fn a_rule_without_literals_is_always_run() {
    let prefilter = Prefilter::new(Phase::Request, [&[][..], &[][..]]).unwrap();
    let (view, mut scratch) = (View::new(), Scratch::default());
    assert_eq!(prefilter.candidates(&view, &mut scratch).iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn what_cannot_be_searched_is_judged_by_the_rule() {
    let describe = portcullis_engine::describe::Describe::parse(
        br#"{"prefilter": [{"section": "query", "literals": ["needle"]}, {"section": "headers", "literals": ["needle"]}]}"#,
    )
    .unwrap();
    let prefilter = Prefilter::new(Phase::Request, [&*describe.prefilter]).unwrap();
    let mut scratch = Scratch::default();
    let mut stands = |target: &str, sections: Sections| {
        let mut view = View::new();
        requests::Request { target: target.into(), fields: Vec::new() }.lay_out(&mut view, sections);
        prefilter.candidates(&view, &mut scratch).count() == 1
    };
    assert!(!stands("/?a=hay", Sections::HEAD));
    assert!(stands("/?a=NEEDLE", Sections::HEAD));
    assert!(!stands("/needle", Sections::HEAD), "the path is not one of its sections");
    assert!(stands("/?a=#", Sections::HEAD), "a malformed section hides what is in it");
    assert!(!stands("/?a=100%", Sections::HEAD), "a lone percent sign hides nothing");
    assert!(stands("/?a=100%&b=needl%u0065", Sections::HEAD));
    assert!(stands("/?a=hay", Sections::NONE), "so does one that is not laid out");
    assert!(!stands("/?a=%25252525252541", Sections::HEAD), "the rule sees no more of an ambiguous one");
}

#[test]
fn a_section_that_the_phase_cannot_have_holds_nothing() {
    let describe = portcullis_engine::describe::Describe::parse(
        br#"{"prefilter": [{"section": "query", "literals": ["needle"]}, {"section": "bodyArguments", "literals": ["needle"]}]}"#,
    )
    .unwrap();
    let stands = |phase| {
        let mut view = View::new();
        let request = requests::Request {
            target: "/?a=hay".into(),
            fields: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
        };
        request.lay_out(&mut view, Sections::ALL);
        if phase == Phase::RequestBody {
            view.body(b"b=needle", Sections::ALL);
        }
        let prefilter = Prefilter::new(phase, [&*describe.prefilter]).unwrap();
        prefilter.candidates(&view, &mut Scratch::default()).count() == 1
    };
    assert!(!stands(Phase::Request));
    assert!(stands(Phase::RequestBody));
}
