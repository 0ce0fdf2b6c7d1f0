//! Which slot names stand for which content.
//!
//! A file has no version id, so the name of a payload that is or was `token` follows from its content: `fp-<SHA-256>`. A staged
//! payload was named by the rotation, and the record goes on using that name after the promotion; the pairs are kept in
//! `.evertoken/slots`. A pair counts only as long as such content is there, so losing the file costs names and nothing else.

use crate::rotation::slot::SlotId;
use crate::rotation::token::Fingerprint;

/// The pairs, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(Vec<(Fingerprint, SlotId)>);

impl Slots {
    /// Reads the file's text. Lines that are not of ours are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (fingerprint, slot) = line.split_once(' ')?;
            Some((fingerprint.parse().ok()?, SlotId::new(slot)))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(fingerprint, slot)| format!("{} {slot}\n", fingerprint.whole())).collect()
    }

    /// The name of a content: the one it was last promoted under, else the one that follows from it.
    pub(super) fn name(&self, content: Fingerprint) -> SlotId {
        let given = self.0.iter().rev().find(|(fingerprint, _slot)| *fingerprint == content);
        given.map_or_else(|| SlotId::new(format!("fp-{}", content.whole())), |(_fingerprint, slot)| slot.clone())
    }

    /// Whether `slot` stands for this content.
    pub(super) fn is(&self, slot: &SlotId, content: Fingerprint) -> bool {
        self.content(slot) == Some(content)
    }

    /// The content that a name stands for.
    pub(super) fn content(&self, slot: &SlotId) -> Option<Fingerprint> {
        let own = slot.as_str().strip_prefix("fp-").and_then(|whole| whole.parse().ok());
        own.or_else(|| self.0.iter().rev().find(|(_fingerprint, name)| name == slot).map(|(fingerprint, _name)| *fingerprint))
    }

    /// The same pairs with one more, less those whose content is not among `kept`.
    pub(super) fn with(&self, content: Fingerprint, slot: &SlotId, kept: &[Fingerprint]) -> Self {
        let pair = (content, slot.clone());
        let own = *slot == SlotId::new(format!("fp-{}", content.whole()));
        let older = self.0.iter().filter(|old| kept.contains(&old.0) && **old != pair).cloned();
        Self(older.chain((!own).then(|| pair.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_its_own_name_and_those_it_was_given() {
        let (one, two) = (Fingerprint::of("one"), Fingerprint::of("two"));
        let slots = Slots::default().with(one, &SlotId::new("first"), &[]);
        assert_eq!(slots.name(one), SlotId::new("first"));
        assert!(slots.is(&SlotId::new("first"), one));
        assert!(slots.is(&SlotId::new(format!("fp-{}", one.whole())), one));
        assert!(!slots.is(&SlotId::new("first"), two));
        assert_eq!(slots.name(two), SlotId::new(format!("fp-{}", two.whole())));
        assert_eq!(Slots::parse(&slots.text()), slots);
        assert_eq!(slots.with(two, &SlotId::new("second"), &[]).content(&SlotId::new("first")), None);
        assert_eq!(slots.with(two, &SlotId::new("second"), &[one]).content(&SlotId::new("first")), Some(one));
    }

    #[test]
    fn foreign_lines_are_passed_over() {
        assert_eq!(Slots::parse("\nnonsense\nzz first\n"), Slots::default());
    }
}
