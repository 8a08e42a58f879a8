//! Any bytes as a detail.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_engine_fuzz::detail::{Detail, Extent, Part, View};
use portcullis_view::SectionId;

/// Ten headers of ten bytes each, with names of five.
struct Headers;

impl Extent for Headers {
    fn length(&self, section: SectionId, index: u32, part: Part, _: View) -> Option<u32> {
        (section == SectionId::Headers && index < 10).then_some(match part {
            Part::Name => 5,
            Part::Value => 10,
        })
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(detail) = Detail::parse(input, &Headers) else { return };
    let short = |text: &Option<String>, longest: usize| {
        text.as_ref().is_none_or(|text| text.len() <= longest && !text.contains(char::is_control))
    };
    assert!(short(&detail.message, 1_024) && short(&detail.rule_id, 128));
    assert!(short(&detail.answer.content_type, 128) && short(&detail.answer.location, 2_048));
    assert!(detail.answer.location.is_none_or(|path| path.starts_with('/') && !path.starts_with("//")));
    assert!(detail.answer.status.is_none_or(|status| (400..600).contains(&status)));
    assert!(detail.answer.retry_after.is_none_or(|seconds| seconds <= 86_400));
    assert!(detail.tags.len() <= 16 && detail.matches.len() <= 8);
    for found in detail.matches {
        let extent = Headers.length(found.section, found.index, found.part, found.view);
        assert!(u64::from(found.offset) + u64::from(found.length) <= u64::from(extent.unwrap()));
    }
});
