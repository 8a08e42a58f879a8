//! Rules as their authors write and test them.

use portcullis_sdk::{Action, Phase, Request, Sample, SectionId, Told, Verdict, View};

mod ten_lines {
    use portcullis_sdk::{Request, Verdict, rule};

    rule! {
        name: "no-evil-scraper",
        version: "1.0.0",
        sections: [Headers],
        prefilter: [Headers.Raw: ["evilscraper"]],
        request: inspect,
    }

    fn inspect(request: &Request<'_>) -> Verdict {
        match request.header("user-agent").and_then(|agent| agent.find("evilscraper")) {
            Some(found) => Verdict::block().message("asked to stay away").matched(found),
            None => Verdict::allow(),
        }
    }
}

#[test]
fn a_rule_says_what_it_found() {
    let verdict = Sample::get("/").header("User-Agent", "I am EvilScraper/1.0").judge(&ten_lines::RULE);
    assert_eq!(verdict, Action::Block);
    let told = verdict.told();
    assert_eq!(told.message.as_deref(), Some("asked to stay away"));
    assert_eq!((told.matches[0].offset, told.matches[0].length), (5, 11));
    assert_eq!(Sample::get("/").header("user-agent", "Mozilla/5.0").judge(&ten_lines::RULE), Action::Allow);
}

mod unsound {
    use portcullis_sdk::{Request, Verdict, rule};

    rule! {
        name: "unsound",
        version: "1.0.0",
        sections: [Path, Headers],
        prefilter: [Headers.Raw: ["evilscraper"]],
        request: inspect,
    }

    fn inspect(request: &Request<'_>) -> Verdict {
        if request.path().canonical() == b"/admin" { Verdict::block() } else { Verdict::allow() }
    }
}

#[test]
#[should_panic(expected = "the prefilter is unsound")]
fn a_prefilter_that_would_have_skipped_a_verdict_fails_the_test() {
    let _ = Sample::get("/admin").header("user-agent", "curl").judge(&unsound::RULE);
}

#[test]
fn a_prefilter_that_lets_the_rule_run_is_sound() {
    let sample = Sample::get("/admin").header("x", "an evilScraper");
    assert_eq!(sample.judge(&unsound::RULE), Action::Block);
}

mod configured {
    use portcullis_sdk::{Request, Verdict, global, rule};

    rule! {
        name: "longest-path",
        version: "1.0.0",
        sections: [Path, Query],
        configure: configure,
        request: inspect,
    }

    global! {
        static LONGEST: usize = 10;
    }

    fn configure(json: &[u8]) -> Result<(), &'static str> {
        let number = str::from_utf8(json).ok().and_then(|json| json.parse().ok());
        LONGEST.set(number.ok_or("expected a number of bytes")?);
        Ok(())
    }

    fn inspect(request: &Request<'_>) -> Verdict {
        let longest = LONGEST.get();
        // Nothing of it is left for the next evaluation.
        LONGEST.set(0);
        if request.path().raw().len() > longest { Verdict::block() } else { Verdict::allow() }
    }
}

#[test]
fn each_evaluation_starts_from_the_configuration() {
    let sample = Sample::get("/0123456789");
    for _ in 0..3 {
        assert_eq!(sample.judge(&configured::RULE), Action::Block);
        assert_eq!(sample.clone().config("20").judge(&configured::RULE), Action::Allow);
    }
}

#[test]
#[should_panic(expected = "the rule refuses its configuration: expected a number of bytes")]
fn a_refused_configuration_fails_the_test() {
    let _ = Sample::get("/").config("{}").judge(&configured::RULE);
}

mod careless {
    use portcullis_sdk::{Location, Part, Request, SectionId, Verdict, View, rule};

    rule! {
        name: "careless",
        version: "1.0.0",
        sections: [RequestLine],
        request: inspect,
    }

    fn inspect(request: &Request<'_>) -> Verdict {
        match request.method().raw() {
            b"COOKIES" => {
                let _ = request.cookies();
                Verdict::allow()
            }
            b"ID" => Verdict::log().rule("not an id"),
            b"MATCH" => Verdict::log().matched(Location {
                section: SectionId::RequestLine,
                index: 0,
                part: Part::Value,
                view: View::Raw,
                offset: 3,
                length: 3,
            }),
            _ => Verdict::allow(),
        }
    }
}

#[test]
#[should_panic(expected = "the section cookies is not laid out: declare it, `sections: [Cookies]`")]
fn a_section_that_is_not_declared_fails_the_test() {
    let _ = Sample::get("/").method("COOKIES").judge(&careless::RULE);
}

#[test]
#[should_panic(expected = "item 2 is too long, or holds what it must not")]
fn an_id_that_a_host_would_drop_fails_the_test() {
    let _ = Sample::get("/").method("ID").judge(&careless::RULE);
}

#[test]
#[should_panic(expected = "expected a match inside the view")]
fn a_match_outside_the_view_fails_the_test() {
    let _ = Sample::get("/").method("MATCH").judge(&careless::RULE);
}

mod phases {
    use portcullis_sdk::{Request, Verdict, rule};

    rule! {
        name: "phases",
        version: "1.0.0",
        sections: [RequestLine, Body, ResponseLine, Hook, Carry],
        request: head,
        request_body: body,
        response: response,
        message: message,
        hook: hook,
    }

    fn head(request: &Request<'_>) -> Verdict {
        Verdict::allow().carry(request.method().raw())
    }

    fn body(request: &Request<'_>) -> Verdict {
        if request.body() == request.carry() { Verdict::block() } else { Verdict::allow().carry(b"body") }
    }

    fn response(request: &Request<'_>) -> Verdict {
        match (request.status().raw(), request.carry()) {
            (b"500", b"body") => Verdict::log(),
            _ => Verdict::allow(),
        }
    }

    fn message(request: &Request<'_>) -> Verdict {
        if request.body() == b"bad" { Verdict::rate_limit() } else { Verdict::allow() }
    }

    fn hook(request: &Request<'_>) -> Verdict {
        let call = request.section(portcullis_sdk::SectionId::Hook);
        match call.entry(2).and_then(|argument| argument.value().find("or 1=1")) {
            Some(found) => Verdict::sanitise(found, b""),
            None => Verdict::allow(),
        }
    }
}

#[test]
fn phases_run_in_order_until_one_does_not_allow() {
    let judge = |sample: Sample| sample.judge(&phases::RULE);
    assert_eq!(judge(Sample::post("/", "POST")), Action::Block);
    assert_eq!(judge(Sample::post("/", "other")), Action::Allow);
    assert_eq!(judge(Sample::post("/", "other").response(500)), Action::Log);
    assert_eq!(judge(Sample::get("/").message("bad")), Action::RateLimit);
    let hook = Sample::get("/").hook("sql", "query", &[b"select 1 where '' OR 1=1"]);
    let verdict = judge(hook);
    assert_eq!(verdict, Action::Sanitise);
    assert_eq!(verdict.told().replacement.as_deref(), Some(&b""[..]));
}

#[test]
fn a_text_is_searched_in_all_views_that_differ() {
    let bytes = Sample::get("/?a=%2575nion&b=plain").view(Phase::Request, &[SectionId::Query], &[]);
    let request = Request::read(&bytes).expect("a view");
    let entry = |name: &str| request.query().named(name).next().expect("an argument").value();
    let found = entry("a").find("UNION").expect("in the canonical view");
    assert_eq!((found.view, found.offset), (View::Canonical, 0));
    assert_eq!(entry("a").distinct().map(|(view, _)| view).collect::<Vec<_>>(), View::ALL);
    assert_eq!(entry("b").distinct().count(), 1);
    assert!(entry("b").find("union").is_none());
}

#[test]
fn what_is_no_view_is_told_from_one() {
    use portcullis_sdk::Malformed;

    let view = Sample::get("/").view(Phase::Request, &[SectionId::Headers], &[]);
    let read = |bytes: &[u8]| Request::read(bytes).map(|_| ()).unwrap_err();
    assert_eq!(read(b""), Malformed::Short);
    assert_eq!(read(&view[..view.len() - 1]), Malformed::Length);
    for (place, byte) in [(0, b'p'), (4, 3), (5, 1)] {
        let mut other = view.clone();
        other[place] = byte;
        assert_eq!(read(&other), Malformed::Version);
    }
    let mut sections = view.clone();
    sections[12] = 2;
    assert_eq!(read(&sections), Malformed::Short);
    let mut minor = view;
    minor[6] = 9;
    assert!(Request::read(&minor).is_ok());
}

#[test]
fn what_is_said_twice_or_too_often_is_said_once_or_as_often_as_may_be() {
    let verdict =
        (0..20).fold(Verdict::block().message("first").message("second"), |verdict, _| verdict.tag("t"));
    assert_eq!(verdict.told().message.as_deref(), Some("first"));
    assert_eq!(verdict.told().tags.len(), 16);
}

#[test]
fn a_detail_that_is_cut_or_padded_wrongly_is_dropped() {
    let detail = Verdict::block().message("hello").status(403).detail().to_vec();
    assert_eq!(Told::read(&detail).map(|told| told.status), Ok(Some(403)));
    for length in 1..detail.len() {
        let whole_items = length == 16;
        assert_eq!(Told::read(&detail[..length]).is_ok(), whole_items, "{length}");
    }
}
