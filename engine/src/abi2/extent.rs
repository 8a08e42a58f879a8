//! What a rule was shown, for checking where it says it found something.

use portcullis_view::{SectionId, Sections, View};

use crate::detail::{self, Extent, Part};

/// The sections of a view that a rule was shown.
pub(super) struct Shown<'a> {
    pub(super) view: &'a View,
    pub(super) sections: Sections,
}

impl Extent for Shown<'_> {
    fn length(&self, section: SectionId, index: u32, part: Part, view: detail::View) -> Option<u32> {
        if !self.sections.contains(section) {
            return None;
        }
        let entry = self.view.section(section)?.entry(index as usize)?;
        let text = match part {
            Part::Value => entry.value,
            Part::Name => entry.name,
        };
        let bytes = match view {
            detail::View::Raw => text.raw,
            detail::View::Decoded => text.decoded,
            detail::View::Canonical => text.canonical,
        };
        u32::try_from(bytes.len()).ok()
    }
}
