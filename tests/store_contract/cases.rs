//! The cases.

use std::sync::Arc;

use evertoken::rotation::fault::FaultClass;
use evertoken::rotation::payload::Payload;
use evertoken::rotation::slot::SlotId;
use evertoken::store::{Mark, Presence, RecordBytes, Severity, Written};
use tokio::join;

use crate::bed::futures_case::Case;
use crate::bed::{Bed, assert_refused, now, seeded, slot};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case with its name.
        pub(crate) const CASES: &[Case] = &[$((stringify!($name), |bed| Box::pin($name(bed)))),*];
    };
}

cases![
    an_absent_entry_is_seen_as_absent,
    nothing_is_written_to_an_absent_entry,
    nothing_goes_beside_a_token_that_is_not_there,
    a_deleting_entry_is_seen_and_left_alone,
    foreign_rotation_is_seen,
    install_fills_an_empty_entry_once,
    install_creates_only_when_told,
    payloads_come_back_byte_for_byte,
    entries_are_apart_and_keep_their_identity,
    records_count_up_and_come_back_exactly,
    a_record_repeated_is_done_and_another_of_its_number_conflicts,
    of_two_writers_of_one_record_one_wins,
    a_writer_that_slept_does_not_bring_an_old_record_back,
    forty_records_leave_room_for_more,
    staging_never_moves_current,
    staging_again_is_done_and_other_bytes_conflict,
    a_slot_that_was_never_written_is_not_there,
    payloads_have_a_limit,
    records_have_a_limit,
    promotion_swaps_and_both_stay_readable,
    promotion_repeated_changes_nothing,
    promotion_from_a_stale_base_conflicts,
    promotion_of_an_unknown_slot_changes_nothing,
    of_two_promotions_from_one_base_one_wins,
    a_promotion_can_be_taken_back,
    marks_are_put_on_and_taken_off_repeatedly,
    marking_again_is_done_and_one_removal_takes_it_off,
    marking_an_unknown_slot_conflicts,
    a_person_who_overwrites_is_seen_and_not_overruled,
    publish_fills_an_empty_sink_and_replaces_what_was_seen,
    publish_against_a_stale_sink_conflicts,
    publish_into_a_missing_entry,
    of_two_publications_over_one_base_one_wins,
    proving_changes_nothing,
    proving_an_empty_entry_conflicts,
    examine_tells_sound_from_missing,
    a_fresh_process_sees_the_same,
    two_rotations_leave_no_marks,
    readers_never_see_a_torn_or_missing_token,
];

fn payload(text: &str) -> Payload {
    Payload::new(text)
}

fn record(number: u64, text: &str) -> RecordBytes {
    RecordBytes { number, bytes: text.as_bytes().to_vec() }
}

async fn an_absent_entry_is_seen_as_absent(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.fresh_name());
    let looked = store.look(&entry).await.unwrap();
    assert_eq!(looked.presence, Presence::Absent);
    assert!(looked.current.is_none() && looked.record.is_none() && looked.staged.is_empty() && looked.retiring.is_empty());
    assert!(store.current(&entry).await.unwrap().is_none());
    assert!(store.read(&entry, &slot(1)).await.unwrap().is_none());
}

async fn nothing_is_written_to_an_absent_entry(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.fresh_name());
    assert_refused(store.stage(&entry, &slot(1), &payload("EAAnew")).await, FaultClass::Missing);
    assert_refused(store.write_record(&entry, &record(1, "{}"), true).await, FaultClass::Missing);
    assert_refused(store.mark_retiring(&entry, &slot(1)).await, FaultClass::Missing);
    assert_refused(store.promote(&entry, &slot(1), &slot(2)).await, FaultClass::Missing);
    assert_refused(store.unmark(&entry, &slot(1), Mark::Staged).await, FaultClass::Missing);
    assert_refused(store.prove_beside(&entry).await, FaultClass::Missing);
    assert_eq!(store.look(&entry).await.unwrap().presence, Presence::Absent);
}

async fn nothing_goes_beside_a_token_that_is_not_there(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.empty().await);
    let looked = store.look(&entry).await.unwrap();
    assert_eq!(looked.presence, Presence::Present);
    assert!(looked.current.is_none());
    assert_refused(store.stage(&entry, &slot(1), &payload("EAAnew")).await, FaultClass::Missing);
    assert_refused(store.write_record(&entry, &record(1, "{}"), false).await, FaultClass::Missing);
    assert_eq!(store.promote(&entry, &slot(1), &slot(2)).await.unwrap(), Written::Conflict);
    assert!(bed.other().current(&entry).await.unwrap().is_none());
    assert_eq!(bed.consume(&entry).await, None);
}

async fn a_deleting_entry_is_seen_and_left_alone(bed: Arc<dyn Bed>) {
    let Some(entry) = bed.deleting().await else { return };
    let store = bed.store();
    assert_eq!(store.look(&entry).await.unwrap().presence, Presence::Deleting);
    assert_refused(store.stage(&entry, &slot(1), &payload("EAAnew")).await, FaultClass::Missing);
    assert_refused(store.write_record(&entry, &record(1, "{}"), true).await, FaultClass::Missing);
    assert_refused(store.install(&entry, &payload("EAAnew"), true).await, FaultClass::Missing);
    assert_refused(store.publish(&entry, None, &payload("EAAnew")).await, FaultClass::Missing);
    assert_refused(store.prove_beside(&entry).await, FaultClass::Missing);
    assert_eq!(bed.other().look(&entry).await.unwrap().presence, Presence::Deleting);
}

async fn foreign_rotation_is_seen(bed: Arc<dyn Bed>) {
    let (own, _held) = seeded(&*bed, "EAAown").await;
    assert_eq!(bed.store().look(&own).await.unwrap().foreign_rotation, None);
    let Some(entry) = bed.rotated_by_others("EAAtheirs").await else { return };
    let looked = bed.store().look(&entry).await.unwrap();
    assert!(looked.foreign_rotation.is_some());
    assert_eq!(looked.current.unwrap().payload.expose(), "EAAtheirs");
    assert!(bed.store().examine(&entry).await.unwrap().iter().any(|finding| finding.severity == Severity::Error));
}

async fn install_fills_an_empty_entry_once(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.empty().await);
    assert_eq!(store.install(&entry, &payload("EAAfirst"), false).await.unwrap(), Written::Done);
    assert_eq!(now(&*bed, &entry).await, "EAAfirst");
    store.install(&entry, &payload("EAAfirst"), false).await.unwrap();
    assert_eq!(store.install(&entry, &payload("EAAsecond"), true).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().install(&entry, &payload("EAAsecond"), false).await.unwrap(), Written::Conflict);
    assert_eq!(now(&*bed, &entry).await, "EAAfirst");
}

async fn install_creates_only_when_told(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.fresh_name());
    assert_refused(store.install(&entry, &payload("EAAfirst"), false).await, FaultClass::Missing);
    assert_eq!(store.look(&entry).await.unwrap().presence, Presence::Absent);
    assert_eq!(store.install(&entry, &payload("EAAfirst"), true).await.unwrap(), Written::Done);
    assert_eq!(now(&*bed, &entry).await, "EAAfirst");
}

async fn payloads_come_back_byte_for_byte(bed: Arc<dyn Bed>) {
    let texts = ["EAA", " leading and trailing \n", "{\"key\":\"va\\u00e9l\",\n \"other\": [1.0, 2e3]}", "\u{e9}\u{1f511}\r\n\t"];
    for (number, text) in texts.iter().enumerate() {
        let (entry, held) = seeded(&*bed, text).await;
        let name = slot(u32::try_from(number).unwrap());
        let staged = format!("{text}2");
        assert_eq!(bed.store().stage(&entry, &name, &payload(&staged)).await.unwrap(), Written::Done);
        assert_eq!(bed.other().read(&entry, &name).await.unwrap().unwrap().expose(), staged);
        assert_eq!(bed.other().read(&entry, &held.slot).await.unwrap().unwrap().expose(), *text);
        assert_eq!(now(&*bed, &entry).await, *text);
    }
}

async fn entries_are_apart_and_keep_their_identity(bed: Arc<dyn Bed>) {
    let ((one, _), (two, _)) = (seeded(&*bed, "EAAone").await, seeded(&*bed, "EAAtwo").await);
    let nested = format!("{one}-below/it");
    bed.store().install(&nested, &payload("EAAthree"), true).await.unwrap();
    bed.store().stage(&one, &slot(1), &payload("EAAone2")).await.unwrap();
    let mut identities = Vec::new();
    for (entry, text) in [(&one, "EAAone"), (&two, "EAAtwo"), (&nested, "EAAthree")] {
        let (here, there) = (bed.store().look(entry).await.unwrap(), bed.other().look(entry).await.unwrap());
        assert_eq!(here.identity, there.identity);
        assert_eq!(here.current.unwrap().payload.expose(), text);
        assert_eq!(here.staged.len(), usize::from(*entry == one));
        identities.push(here.identity);
    }
    identities.dedup();
    assert_eq!(identities.len(), 3);
}

async fn records_count_up_and_come_back_exactly(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAcurrent").await);
    for number in 1..=3 {
        let written = record(number, &format!("{{\"n\":{number},\"text\":\"a\\nb \u{e9}\"}}"));
        assert_eq!(store.write_record(&entry, &written, number % 2 == 0).await.unwrap(), Written::Done);
        assert_eq!(store.look(&entry).await.unwrap().record, Some(written.clone()));
        assert_eq!(bed.other().look(&entry).await.unwrap().record, Some(written));
    }
    assert_eq!(store.current(&entry).await.unwrap(), Some(held));
    assert_eq!(now(&*bed, &entry).await, "EAAcurrent");
}

async fn a_record_repeated_is_done_and_another_of_its_number_conflicts(bed: Arc<dyn Bed>) {
    let (store, (entry, _)) = (bed.store(), seeded(&*bed, "EAAcurrent").await);
    for _try in 0..2 {
        assert_eq!(store.write_record(&entry, &record(1, "mine"), true).await.unwrap(), Written::Done);
    }
    assert_eq!(bed.other().write_record(&entry, &record(1, "theirs"), true).await.unwrap(), Written::Conflict);
    assert_eq!(store.write_record(&entry, &record(1, "theirs"), false).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().look(&entry).await.unwrap().record, Some(record(1, "mine")));
}

async fn of_two_writers_of_one_record_one_wins(bed: Arc<dyn Bed>) {
    let (entry, _) = seeded(&*bed, "EAAcurrent").await;
    for number in 1..=5 {
        let (mine, theirs) = (record(number, &format!("mine {number}")), record(number, &format!("theirs {number}")));
        let (here, there) = (bed.store(), bed.other());
        let (one, two) = join!(here.write_record(&entry, &mine, true), there.write_record(&entry, &theirs, true));
        let winner = match (one.unwrap(), two.unwrap()) {
            (Written::Done, Written::Conflict) => mine,
            (Written::Conflict, Written::Done) => theirs,
            both => panic!("exactly one writer of record {number} wins, got {both:?}"),
        };
        assert_eq!(bed.other().look(&entry).await.unwrap().record, Some(winner));
    }
}

async fn a_writer_that_slept_does_not_bring_an_old_record_back(bed: Arc<dyn Bed>) {
    let (store, (entry, _)) = (bed.store(), seeded(&*bed, "EAAcurrent").await);
    for number in 1..=3 {
        store.write_record(&entry, &record(number, "awake"), false).await.unwrap();
    }
    assert_eq!(bed.other().write_record(&entry, &record(2, "asleep"), false).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().look(&entry).await.unwrap().record, Some(record(3, "awake")));
    assert_eq!(store.write_record(&entry, &record(4, "awake"), true).await.unwrap(), Written::Done);
}

async fn forty_records_leave_room_for_more(bed: Arc<dyn Bed>) {
    let (entry, _) = seeded(&*bed, "EAAcurrent").await;
    for number in 1..=40 {
        assert_eq!(bed.store().write_record(&entry, &record(number, "x"), false).await.unwrap(), Written::Done, "record {number}");
    }
    assert_eq!(bed.other().look(&entry).await.unwrap().record, Some(record(40, "x")));
    assert_eq!(bed.store().stage(&entry, &slot(1), &payload("EAAnew")).await.unwrap(), Written::Done);
}

async fn staging_never_moves_current(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    for number in 1..=3 {
        assert_eq!(store.stage(&entry, &slot(number), &payload(&format!("EAAnew{number}"))).await.unwrap(), Written::Done);
        assert_eq!(store.current(&entry).await.unwrap().as_ref(), Some(&held));
        assert_eq!(now(&*bed, &entry).await, "EAAold");
    }
    let looked = bed.other().look(&entry).await.unwrap();
    assert_eq!(looked.current, Some(held));
    let (mut staged, mut expected) = (looked.staged, vec![slot(1), slot(2), slot(3)]);
    staged.sort_unstable();
    expected.sort_unstable();
    assert_eq!(staged, expected);
    assert!(looked.retiring.is_empty());
}

async fn staging_again_is_done_and_other_bytes_conflict(bed: Arc<dyn Bed>) {
    let (store, (entry, _)) = (bed.store(), seeded(&*bed, "EAAold").await);
    for _try in 0..2 {
        assert_eq!(store.stage(&entry, &slot(1), &payload("EAAnew")).await.unwrap(), Written::Done);
    }
    assert_eq!(store.stage(&entry, &slot(1), &payload("EAAother")).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().stage(&entry, &slot(1), &payload("EAAother")).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().read(&entry, &slot(1)).await.unwrap().unwrap().expose(), "EAAnew");
}

async fn a_slot_that_was_never_written_is_not_there(bed: Arc<dyn Bed>) {
    let (entry, _) = seeded(&*bed, "EAAold").await;
    assert_eq!(bed.store().read(&entry, &slot(9)).await.unwrap(), None);
    assert_eq!(bed.store().read(&entry, &SlotId::new("../token")).await.unwrap(), None);
}

async fn payloads_have_a_limit(bed: Arc<dyn Bed>) {
    let (store, (entry, _)) = (bed.store(), seeded(&*bed, "EAAold").await);
    let most = "x".repeat(65_536);
    assert_eq!(store.stage(&entry, &slot(1), &payload(&most)).await.unwrap(), Written::Done);
    assert_eq!(bed.other().read(&entry, &slot(1)).await.unwrap().unwrap().expose().len(), most.len());
    assert_refused(store.stage(&entry, &slot(2), &payload(&format!("{most}x"))).await, FaultClass::Limit);
    assert_eq!(bed.other().read(&entry, &slot(2)).await.unwrap(), None);
    assert_eq!(now(&*bed, &entry).await, "EAAold");
}

async fn records_have_a_limit(bed: Arc<dyn Bed>) {
    let (store, (entry, _)) = (bed.store(), seeded(&*bed, "EAAold").await);
    assert_refused(store.write_record(&entry, &record(1, &"x".repeat(65_537)), true).await, FaultClass::Limit);
    assert_eq!(bed.other().look(&entry).await.unwrap().record, None);
}

/// Stages, marks and promotes, as a rotation does.
async fn promoted(bed: &dyn Bed, entry: &str, from: &SlotId, to: &SlotId, text: &str) {
    let store = bed.store();
    assert_eq!(store.stage(entry, to, &payload(text)).await.unwrap(), Written::Done);
    assert_eq!(store.mark_retiring(entry, from).await.unwrap(), Written::Done);
    assert_eq!(store.promote(entry, from, to).await.unwrap(), Written::Done);
}

async fn promotion_swaps_and_both_stay_readable(bed: Arc<dyn Bed>) {
    let (entry, held) = seeded(&*bed, "EAAold").await;
    promoted(&*bed, &entry, &held.slot, &slot(1), "EAAnew").await;
    assert_eq!(now(&*bed, &entry).await, "EAAnew");
    let looked = bed.other().look(&entry).await.unwrap();
    let current = looked.current.unwrap();
    assert_eq!((&current.slot, current.payload.expose()), (&slot(1), "EAAnew"), "the promoted payload keeps its slot's name");
    assert_eq!(looked.retiring, vec![held.slot.clone()]);
    assert_eq!(looked.staged, vec![slot(1)]);
    assert_eq!(bed.other().read(&entry, &held.slot).await.unwrap().unwrap().expose(), "EAAold");
    assert_eq!(bed.other().unmark(&entry, &slot(1), Mark::Staged).await.unwrap(), Written::Done);
    assert_eq!(bed.other().read(&entry, &slot(1)).await.unwrap().unwrap().expose(), "EAAnew");
    assert_eq!(bed.other().look(&entry).await.unwrap().current.unwrap().slot, slot(1));
}

async fn promotion_repeated_changes_nothing(bed: Arc<dyn Bed>) {
    let (entry, held) = seeded(&*bed, "EAAold").await;
    promoted(&*bed, &entry, &held.slot, &slot(1), "EAAnew").await;
    for _try in 0..2 {
        // Done or Conflict, as the trait says; the next look tells.
        bed.other().promote(&entry, &held.slot, &slot(1)).await.unwrap();
        assert_eq!(now(&*bed, &entry).await, "EAAnew");
    }
    assert_eq!(bed.other().current(&entry).await.unwrap().unwrap().slot, slot(1));
}

async fn promotion_from_a_stale_base_conflicts(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    store.stage(&entry, &slot(2), &payload("EAAlate")).await.unwrap();
    promoted(&*bed, &entry, &held.slot, &slot(1), "EAAnew").await;
    assert_eq!(store.promote(&entry, &held.slot, &slot(2)).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().promote(&entry, &slot(7), &slot(2)).await.unwrap(), Written::Conflict);
    assert_eq!(now(&*bed, &entry).await, "EAAnew");
    assert_eq!(bed.other().current(&entry).await.unwrap().unwrap().slot, slot(1));
}

async fn promotion_of_an_unknown_slot_changes_nothing(bed: Arc<dyn Bed>) {
    let (entry, held) = seeded(&*bed, "EAAold").await;
    assert_eq!(bed.store().promote(&entry, &held.slot, &slot(9)).await.unwrap(), Written::Conflict);
    assert_eq!(now(&*bed, &entry).await, "EAAold");
    assert_eq!(bed.other().current(&entry).await.unwrap(), Some(held));
}

async fn of_two_promotions_from_one_base_one_wins(bed: Arc<dyn Bed>) {
    let (entry, mut base) = seeded(&*bed, "EAAbase").await;
    for round in 0..5 {
        let (one, two) = (slot(10 * round + 1), slot(10 * round + 2));
        let (here, there) = (bed.store(), bed.other());
        here.stage(&entry, &one, &payload(&format!("EAAone{round}"))).await.unwrap();
        there.stage(&entry, &two, &payload(&format!("EAAtwo{round}"))).await.unwrap();
        let outcomes = join!(here.promote(&entry, &base.slot, &one), there.promote(&entry, &base.slot, &two));
        let winner = match (outcomes.0.unwrap(), outcomes.1.unwrap()) {
            (Written::Done, Written::Conflict) => (one.clone(), format!("EAAone{round}")),
            (Written::Conflict, Written::Done) => (two.clone(), format!("EAAtwo{round}")),
            both => panic!("exactly one promotion wins, got {both:?}"),
        };
        assert_eq!(now(&*bed, &entry).await, winner.1);
        base = bed.other().current(&entry).await.unwrap().unwrap();
        assert_eq!(base.slot, winner.0);
        for slot in [one, two] {
            here.unmark(&entry, &slot, Mark::Staged).await.unwrap();
        }
    }
}

async fn a_promotion_can_be_taken_back(bed: Arc<dyn Bed>) {
    let (entry, held) = seeded(&*bed, "EAAold").await;
    promoted(&*bed, &entry, &held.slot, &slot(1), "EAAnew").await;
    let store = bed.other();
    assert_eq!(store.mark_retiring(&entry, &slot(1)).await.unwrap(), Written::Done);
    assert_eq!(store.promote(&entry, &slot(1), &held.slot).await.unwrap(), Written::Done);
    assert_eq!(store.unmark(&entry, &held.slot, Mark::Retiring).await.unwrap(), Written::Done);
    assert_eq!(now(&*bed, &entry).await, "EAAold");
    let looked = bed.store().look(&entry).await.unwrap();
    assert_eq!(looked.current.unwrap().slot, held.slot);
    assert_eq!(looked.retiring, vec![slot(1)]);
    assert_eq!(store.read(&entry, &slot(1)).await.unwrap().unwrap().expose(), "EAAnew");
}

async fn marks_are_put_on_and_taken_off_repeatedly(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    store.stage(&entry, &slot(1), &payload("EAAnew")).await.unwrap();
    assert_eq!(store.mark_retiring(&entry, &held.slot).await.unwrap(), Written::Done);
    assert_eq!(bed.other().look(&entry).await.unwrap().retiring, vec![held.slot.clone()]);
    // A token that became surplus goes out without ever having been current.
    assert_eq!(store.mark_retiring(&entry, &slot(1)).await.unwrap(), Written::Done);
    assert_eq!(store.unmark(&entry, &slot(1), Mark::Staged).await.unwrap(), Written::Done);
    assert_eq!(store.read(&entry, &slot(1)).await.unwrap().unwrap().expose(), "EAAnew");
    assert!(bed.other().look(&entry).await.unwrap().retiring.contains(&slot(1)));
    for _try in 0..2 {
        for (slot, mark) in [(&slot(1), Mark::Staged), (&slot(1), Mark::Retiring), (&held.slot, Mark::Retiring), (&slot(9), Mark::Staged)] {
            assert_eq!(store.unmark(&entry, slot, mark).await.unwrap(), Written::Done);
        }
        let looked = bed.other().look(&entry).await.unwrap();
        assert!(looked.staged.is_empty() && looked.retiring.is_empty(), "{looked:?}");
        assert_eq!(looked.current.as_ref(), Some(&held));
    }
}

async fn marking_again_is_done_and_one_removal_takes_it_off(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    for _try in 0..2 {
        assert_eq!(store.mark_retiring(&entry, &held.slot).await.unwrap(), Written::Done);
        assert_eq!(bed.other().look(&entry).await.unwrap().retiring, vec![held.slot.clone()]);
    }
    assert_eq!(store.unmark(&entry, &held.slot, Mark::Retiring).await.unwrap(), Written::Done);
    assert!(bed.other().look(&entry).await.unwrap().retiring.is_empty());
}

async fn marking_an_unknown_slot_conflicts(bed: Arc<dyn Bed>) {
    let (entry, _) = seeded(&*bed, "EAAold").await;
    assert_eq!(bed.store().mark_retiring(&entry, &slot(9)).await.unwrap(), Written::Conflict);
    assert!(bed.other().look(&entry).await.unwrap().retiring.is_empty());
}

async fn a_person_who_overwrites_is_seen_and_not_overruled(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    store.stage(&entry, &slot(1), &payload("EAAnew")).await.unwrap();
    store.mark_retiring(&entry, &held.slot).await.unwrap();
    bed.overwrite(&entry, "EAAhuman").await;
    assert_eq!(store.promote(&entry, &held.slot, &slot(1)).await.unwrap(), Written::Conflict);
    assert_eq!(now(&*bed, &entry).await, "EAAhuman");
    let theirs = store.look(&entry).await.unwrap().current.unwrap();
    assert_ne!(theirs.slot, held.slot);
    assert_eq!(store.read(&entry, &held.slot).await.unwrap().unwrap().expose(), "EAAold");
    promoted(&*bed, &entry, &theirs.slot, &slot(2), "EAAnext").await;
    assert_eq!(now(&*bed, &entry).await, "EAAnext");
}

async fn publish_fills_an_empty_sink_and_replaces_what_was_seen(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.empty().await);
    assert_eq!(store.publish(&entry, None, &payload("EAAone")).await.unwrap(), Written::Done);
    assert_eq!(now(&*bed, &entry).await, "EAAone");
    for (number, text) in ["EAAtwo", "EAAthree"].iter().enumerate() {
        let seen = store.current(&entry).await.unwrap().unwrap();
        assert_eq!(store.publish(&entry, Some(&seen.slot), &payload(text)).await.unwrap(), Written::Done, "{number}");
        assert_eq!(now(&*bed, &entry).await, *text);
        // The answer was lost, so it is done again.
        store.publish(&entry, Some(&seen.slot), &payload(text)).await.unwrap();
        assert_eq!(now(&*bed, &entry).await, *text);
    }
    let looked = bed.other().look(&entry).await.unwrap();
    assert!(looked.staged.is_empty() && looked.record.is_none(), "{looked:?}");
}

async fn publish_against_a_stale_sink_conflicts(bed: Arc<dyn Bed>) {
    let (store, (entry, stale)) = (bed.store(), seeded(&*bed, "EAAone").await);
    assert_eq!(store.publish(&entry, Some(&stale.slot), &payload("EAAtwo")).await.unwrap(), Written::Done);
    assert_eq!(bed.other().publish(&entry, Some(&stale.slot), &payload("EAAolder")).await.unwrap(), Written::Conflict);
    assert_eq!(bed.other().publish(&entry, None, &payload("EAAolder")).await.unwrap(), Written::Conflict);
    assert_eq!(now(&*bed, &entry).await, "EAAtwo");
}

async fn publish_into_a_missing_entry(bed: Arc<dyn Bed>) {
    let (store, entry) = (bed.store(), bed.fresh_name());
    let published = store.publish(&entry, None, &payload("EAAone")).await;
    if bed.publish_makes_entries() {
        assert_eq!(published.unwrap(), Written::Done);
        assert_eq!(now(&*bed, &entry).await, "EAAone");
    } else {
        assert_refused(published, FaultClass::Missing);
        assert_eq!(store.look(&entry).await.unwrap().presence, Presence::Absent);
    }
}

async fn of_two_publications_over_one_base_one_wins(bed: Arc<dyn Bed>) {
    let (entry, base) = seeded(&*bed, "EAAbase").await;
    let (here, there) = (bed.store(), bed.other());
    let (one, two) = (payload("EAAone"), payload("EAAtwo"));
    let outcomes = join!(here.publish(&entry, Some(&base.slot), &one), there.publish(&entry, Some(&base.slot), &two));
    let winner = match (outcomes.0.unwrap(), outcomes.1.unwrap()) {
        (Written::Done, Written::Conflict) => "EAAone",
        (Written::Conflict, Written::Done) => "EAAtwo",
        both => panic!("exactly one publication wins, got {both:?}"),
    };
    assert_eq!(now(&*bed, &entry).await, winner);
}

async fn proving_changes_nothing(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    for _try in 0..2 {
        assert_eq!(store.prove_beside(&entry).await.unwrap(), Written::Done);
        assert_eq!(now(&*bed, &entry).await, "EAAold");
        let looked = bed.other().look(&entry).await.unwrap();
        assert_eq!(looked.current.as_ref(), Some(&held));
        assert!(looked.staged.is_empty() && looked.retiring.is_empty() && looked.record.is_none(), "{looked:?}");
    }
}

async fn proving_an_empty_entry_conflicts(bed: Arc<dyn Bed>) {
    let entry = bed.empty().await;
    assert_eq!(bed.store().prove_beside(&entry).await.unwrap(), Written::Conflict);
    assert!(bed.store().current(&entry).await.unwrap().is_none());
}

async fn examine_tells_sound_from_missing(bed: Arc<dyn Bed>) {
    let (entry, _) = seeded(&*bed, "EAAcanary").await;
    let sound = bed.store().examine(&entry).await.unwrap();
    assert!(sound.iter().any(|finding| finding.severity == Severity::Fine));
    assert!(sound.iter().all(|finding| finding.severity < Severity::Error), "{sound:?}");
    let missing = bed.store().examine(&bed.fresh_name()).await.unwrap();
    assert!(missing.iter().any(|finding| finding.severity > Severity::Fine && !finding.remedy.is_empty()), "{missing:?}");
    assert!(!format!("{sound:?}{missing:?}").contains("EAAcanary"));
}

async fn a_fresh_process_sees_the_same(bed: Arc<dyn Bed>) {
    let (store, (entry, held)) = (bed.store(), seeded(&*bed, "EAAold").await);
    store.write_record(&entry, &record(1, "one"), true).await.unwrap();
    promoted(&*bed, &entry, &held.slot, &slot(1), "EAAnew").await;
    store.write_record(&entry, &record(2, "two"), true).await.unwrap();
    let (here, there) = (store.look(&entry).await.unwrap(), bed.other().look(&entry).await.unwrap());
    assert_eq!((here.current, here.staged, here.retiring, here.record), (there.current, there.staged, there.retiring, there.record));
}

async fn two_rotations_leave_no_marks(bed: Arc<dyn Bed>) {
    let (store, (entry, mut held)) = (bed.store(), seeded(&*bed, "EAA0").await);
    assert_eq!(store.prove_beside(&entry).await.unwrap(), Written::Done);
    for number in 1..=2 {
        let first = u64::from(number) * 2 - 1;
        assert_eq!(store.write_record(&entry, &record(first, "intent"), true).await.unwrap(), Written::Done);
        promoted(&*bed, &entry, &held.slot, &slot(number), &format!("EAA{number}")).await;
        assert_eq!(store.unmark(&entry, &slot(number), Mark::Staged).await.unwrap(), Written::Done);
        assert_eq!(store.unmark(&entry, &held.slot, Mark::Retiring).await.unwrap(), Written::Done);
        assert_eq!(store.write_record(&entry, &record(first + 1, "rest"), false).await.unwrap(), Written::Done);
        let looked = bed.other().look(&entry).await.unwrap();
        held = looked.current.unwrap();
        assert_eq!((held.payload.expose(), &held.slot), (format!("EAA{number}").as_str(), &slot(number)));
        assert!(looked.staged.is_empty() && looked.retiring.is_empty());
        assert_eq!(looked.record, Some(record(first + 1, "rest")));
    }
}

async fn readers_never_see_a_torn_or_missing_token(bed: Arc<dyn Bed>) {
    // Long enough that a write in place would be seen half done.
    let text = |number: usize| format!("EAA{}", number.to_string().repeat(4096));
    let (entry, mut held) = seeded(&*bed, &text(0)).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let reader = {
        let (bed, entry) = (Arc::clone(&bed), entry.clone());
        tokio::spawn(async move {
            let mut seen = 0_u64;
            while !*stopped.borrow() {
                let read = bed.consume(&entry).await.expect("a token is there at every instant");
                let whole = read.strip_prefix("EAA").and_then(|rest| rest.chars().next()).is_some() && read.len() % 4096 == 3;
                assert!(whole, "a torn read of {} bytes", read.len());
                seen += 1;
                tokio::task::yield_now().await;
            }
            seen
        })
    };
    let store = bed.store();
    for number in 1..=bed.swaps() {
        // By turns as a sink, and as a store in a whole rotation.
        if number % 5 > 0 {
            assert_eq!(store.publish(&entry, Some(&held.slot), &payload(&text(number))).await.unwrap(), Written::Done);
        } else {
            let name = slot(u32::try_from(number).unwrap());
            promoted(&*bed, &entry, &held.slot, &name, &text(number)).await;
            store.unmark(&entry, &held.slot, Mark::Retiring).await.unwrap();
            store.unmark(&entry, &name, Mark::Staged).await.unwrap();
        }
        held = store.current(&entry).await.unwrap().unwrap();
    }
    stop.send(true).unwrap();
    assert!(reader.await.unwrap() > 1);
    assert_eq!(now(&*bed, &entry).await, text(bed.swaps()));
}
