//! The bytes of one slot: how a text is sealed into them, and what can be said of them with and without the key.
//!
//! ```text
//! 0      14  mark "evertoken-slot"      40     32  SHA-256 over the token's name and the slot without this field
//! 14      2  format version             72   8120  binding as JSON, zero-filled
//! 16      8  key id, hex                8192       ChaCha20-Poly1305 of length, text and zeroes, then its tag
//! 24     12  nonce
//! 36      4  length of the binding
//! ```
//!
//! The checksum tells damage from a missing key without the key; the AEAD, whose additional data is the token's name and the
//! header, decides. Both cover the name, so a slot copied to another token's name opens as nothing. The length of the text is
//! inside the seal, so every slot looks alike.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{SpoolError, TEXT_BYTES_MAX};

const MARK: &[u8; 14] = b"evertoken-slot";
/// Differs from the mark of a full slot in many bits, so that decay cannot turn one into the other.
pub(super) const CLEARED: &[u8; 16] = b"EMPTIED-ON-DEMND";
const VERSION: u16 = 1;
const KEY_ID: std::ops::Range<usize> = 16..24;
const NONCE: std::ops::Range<usize> = 24..36;
const BINDING_LENGTH: std::ops::Range<usize> = 36..40;
const CHECKSUM: std::ops::Range<usize> = 40..72;
const HEADER_BYTES: usize = 8192;
const BINDING: std::ops::Range<usize> = 72..HEADER_BYTES;
const LENGTH_BYTES: usize = 4;
const PLAIN_BYTES: usize = LENGTH_BYTES + TEXT_BYTES_MAX;
const TAG_BYTES: usize = 16;
/// Size of every slot on disk.
pub(super) const SLOT_BYTES: usize = HEADER_BYTES + PLAIN_BYTES + TAG_BYTES;

const HKDF_SALT: &[u8] = b"evertoken spool 1";
const HKDF_SEAL: &[u8] = b"evertoken spool 1 seal";
const HKDF_CHECK: &[u8] = b"evertoken spool 1 key check";

/// What a captured text belongs to. Readable without the key, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The entry's name for good (an ARN, a path).
    pub identity: String,
    /// The rotation that received the text.
    pub rotation: String,
    /// The attempt of that rotation.
    pub attempt: u32,
}

/// The key that seals slots, derived from an app's secret (HKDF-SHA256), so that whoever has only the disk has nothing.
///
/// `ring` does not wipe its keys from memory on drop; the app secret lives in this process anyway.
#[derive(Clone)]
pub struct SpoolKey {
    seal: LessSafeKey,
    id: String,
}

impl SpoolKey {
    /// Derives the key of an app. Equal secrets give equal keys, on every host.
    ///
    /// # Errors
    /// When the cryptographic library refuses the derivation.
    pub fn derive(app_secret: &SecretString) -> Result<Self, SpoolError> {
        let root = Salt::new(HKDF_SHA256, HKDF_SALT).extract(app_secret.expose_secret().as_bytes());
        let mut check = Zeroizing::new([0_u8; 32]);
        root.expand(&[HKDF_CHECK], HKDF_SHA256).and_then(|okm| okm.fill(check.as_mut_slice())).map_err(|Unspecified| SpoolError::Seal)?;
        let seal = root.expand(&[HKDF_SEAL], &CHACHA20_POLY1305).map_err(|Unspecified| SpoolError::Seal)?;
        let id = Sha256::digest(check.as_slice()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { seal: LessSafeKey::new(UnboundKey::from(seal)), id })
    }

    /// Names the key without giving anything of it away: eight hex digits of the digest of a value derived beside it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for SpoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpoolKey({})", self.id)
    }
}

/// What a slot holds.
#[derive(Debug)]
pub enum SlotContent {
    /// Nothing.
    Empty,
    /// A captured text, opened.
    Holds {
        /// What it belongs to.
        binding: Binding,
        /// The text.
        text: SecretString,
    },
    /// A captured text, whole, that none of the given keys opens. Kept until a key is found or a person sets it aside.
    Locked {
        /// The id of the key that sealed it.
        key_id: String,
        /// What it belongs to; not proven, since only the key proves it.
        binding: Option<Binding>,
    },
    /// Bytes that are neither empty nor a whole slot. They are never overwritten.
    Damaged {
        /// What is wrong with them.
        why: &'static str,
        /// They may be whole to another version of the program, which must find them where they are.
        other_version: bool,
    },
}

/// Seals a text for one token's slot.
pub(super) fn seal(name: &str, binding: &Binding, text: &SecretString, key: &SpoolKey) -> Result<Vec<u8>, SpoolError> {
    let text = text.expose_secret().as_bytes();
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= TEXT_BYTES_MAX).ok_or(SpoolError::TextTooLong(text.len()))?;
    let mut plain = Zeroizing::new(vec![0_u8; PLAIN_BYTES]);
    let filled = length.to_le_bytes().into_iter().chain(text.iter().copied());
    plain.iter_mut().zip(filled).for_each(|(to, from)| *to = from);

    let mut nonce = [0_u8; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|Unspecified| SpoolError::Seal)?;
    let mut slot = header(binding, key, &nonce)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key
        .seal
        .seal_in_place_separate_tag(nonce, Aad::from(bound_data(name, &slot)), plain.as_mut_slice())
        .map_err(|Unspecified| SpoolError::Seal)?;
    slot.extend_from_slice(&plain);
    slot.extend_from_slice(tag.as_ref());
    let sum = checksum(name, &slot);
    put(&mut slot, CHECKSUM, &sum);
    Ok(slot)
}

/// Says what the bytes of a slot hold. Total: every input has an answer.
pub(super) fn open(name: &str, slot: &[u8], keys: &[SpoolKey]) -> SlotContent {
    let damaged = |why| SlotContent::Damaged { why, other_version: false };
    if slot.len() != SLOT_BYTES {
        return damaged("the file does not have the size of a slot");
    }
    if slot.starts_with(CLEARED) || slot.iter().all(|byte| *byte == 0) {
        return SlotContent::Empty;
    }
    if !slot.starts_with(MARK) {
        return damaged("the bytes are not those of a slot");
    }
    if slot.get(MARK.len()..KEY_ID.start) != Some(VERSION.to_le_bytes().as_slice()) {
        return SlotContent::Damaged { why: "the slot has a format that this version does not know", other_version: true };
    }
    if slot.get(CHECKSUM) != Some(checksum(name, slot).as_slice()) {
        return damaged("the checksum is wrong: a torn write, decay, or another token's slot");
    }
    let binding = binding_of(slot);
    let key_id = slot.get(KEY_ID).map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default();
    let mut fitting = keys.iter().filter(|key| key.id == key_id).peekable();
    if fitting.peek().is_none() {
        return SlotContent::Locked { key_id, binding };
    }
    match (fitting.find_map(|key| unseal(name, slot, key)), binding) {
        (Some(text), Some(binding)) => SlotContent::Holds { binding, text },
        (None, _) | (_, None) => damaged("the seal is broken"),
    }
}

fn header(binding: &Binding, key: &SpoolKey, nonce: &[u8; NONCE_LEN]) -> Result<Vec<u8>, SpoolError> {
    let binding = serde_json::to_vec(binding).map_err(|_unserializable| SpoolError::Seal)?;
    let length = u32::try_from(binding.len()).ok().filter(|_| binding.len() <= BINDING.len());
    let length = length.ok_or(SpoolError::BindingTooLong(binding.len()))?;
    let mut header = Vec::with_capacity(SLOT_BYTES);
    header.extend_from_slice(MARK);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.resize(HEADER_BYTES, 0);
    put(&mut header, KEY_ID, key.id.as_bytes());
    put(&mut header, NONCE, nonce);
    put(&mut header, BINDING_LENGTH, &length.to_le_bytes());
    put(&mut header, BINDING, &binding);
    Ok(header)
}

fn put(slot: &mut [u8], range: std::ops::Range<usize>, bytes: &[u8]) {
    slot.iter_mut().take(range.end).skip(range.start).zip(bytes).for_each(|(to, from)| *to = *from);
}

fn binding_of(slot: &[u8]) -> Option<Binding> {
    let length = u32::from_le_bytes(slot.get(BINDING_LENGTH)?.try_into().ok()?);
    serde_json::from_slice(slot.get(BINDING)?.get(..usize::try_from(length).ok()?)?).ok()
}

fn unseal(name: &str, slot: &[u8], key: &SpoolKey) -> Option<SecretString> {
    let nonce = Nonce::try_assume_unique_for_key(slot.get(NONCE)?).ok()?;
    let mut body = Zeroizing::new(slot.get(HEADER_BYTES..)?.to_vec());
    let plain = key.seal.open_in_place(nonce, Aad::from(bound_data(name, slot)), &mut body).ok()?;
    let (length, text) = plain.split_first_chunk::<LENGTH_BYTES>()?;
    let text = text.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some(SecretString::from(std::str::from_utf8(text).ok()?))
}

/// The token's name and the header without the checksum: what the seal binds beside the text.
fn bound_data(name: &str, slot: &[u8]) -> Vec<u8> {
    let mut bound = named(name);
    bound.extend(slot.iter().take(HEADER_BYTES).enumerate().map(|(at, byte)| if CHECKSUM.contains(&at) { 0 } else { *byte }));
    bound
}

fn checksum(name: &str, slot: &[u8]) -> [u8; 32] {
    let body = slot.get(HEADER_BYTES..).unwrap_or_default();
    Sha256::new_with_prefix(bound_data(name, slot)).chain_update(body).finalize().into()
}

fn named(name: &str) -> Vec<u8> {
    let mut named = Vec::with_capacity(HEADER_BYTES + 256);
    named.extend_from_slice(name.as_bytes());
    named.push(0);
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> SpoolKey {
        SpoolKey::derive(&SecretString::from(secret)).unwrap()
    }

    fn binding() -> Binding {
        Binding { identity: "arn:aws:x".into(), rotation: "r1".into(), attempt: 2 }
    }

    fn sealed(text: &str) -> Vec<u8> {
        seal("bot", &binding(), &SecretString::from(text), &key("s")).unwrap()
    }

    fn forge_checksum(name: &str, slot: &mut [u8]) {
        let sum = checksum(name, slot);
        put(slot, CHECKSUM, &sum);
    }

    #[test]
    fn what_is_sealed_is_opened_and_bound() {
        for text in ["", "t", &"x".repeat(TEXT_BYTES_MAX)] {
            let slot = sealed(text);
            assert_eq!(slot.len(), SLOT_BYTES);
            match open("bot", &slot, &[key("other"), key("s")]) {
                SlotContent::Holds { binding: found, text: opened } => {
                    assert_eq!(found, binding());
                    assert_eq!(opened.expose_secret(), text);
                }
                other @ (SlotContent::Empty | SlotContent::Locked { .. } | SlotContent::Damaged { .. }) => panic!("{other:?}"),
            }
        }
        assert_ne!(sealed("t"), sealed("t"), "a nonce is never used twice");
    }

    #[test]
    fn without_its_key_a_slot_is_locked_and_shows_only_its_binding() {
        let slot = sealed("secret-text");
        let SlotContent::Locked { key_id, binding: shown } = open("bot", &slot, &[key("other")]) else { panic!("not locked") };
        assert_eq!(key_id, key("s").id());
        assert_ne!(key_id, key("other").id());
        assert_eq!(shown, Some(binding()));
        assert!(!slot.windows(11).any(|window| window == b"secret-text"));
    }

    /// Every bit of the header's fields, one bit of each byte around the borders, and a sample of the rest, which one checksum
    /// covers alike.
    #[test]
    fn a_flipped_bit_is_damage_with_or_without_the_key() {
        let mut slot = sealed("t");
        let fields = (0..BINDING.start).flat_map(|at| (0..8).map(move |bit| (at, bit)));
        let borders = (BINDING.start..BINDING.start + 80).chain(HEADER_BYTES - 2..HEADER_BYTES + 40).chain(SLOT_BYTES - 17..SLOT_BYTES);
        for (at, bit) in fields.chain(borders.chain((0..SLOT_BYTES).step_by(197)).map(|at| (at, at % 8))) {
            slot[at] ^= 1 << bit;
            for keys in [vec![key("s")], vec![]] {
                assert!(matches!(open("bot", &slot, &keys), SlotContent::Damaged { .. }), "bit {bit} of byte {at}");
            }
            slot[at] ^= 1 << bit;
        }
        assert!(matches!(open("bot", &slot, &[key("s")]), SlotContent::Holds { .. }));
    }

    /// The checksum is no secret: whoever forges it still fails at the seal, in the header as in the body.
    #[test]
    fn a_forged_checksum_does_not_help() {
        for at in (24..40).chain(72..72 + 60).chain([BINDING.end - 1, HEADER_BYTES, HEADER_BYTES + 3, HEADER_BYTES + 5, SLOT_BYTES - 1]) {
            let mut slot = sealed("t");
            slot[at] ^= 4;
            forge_checksum("bot", &mut slot);
            assert!(matches!(open("bot", &slot, &[key("s")]), SlotContent::Damaged { .. }), "byte {at}");
        }
        let mut moved = sealed("t");
        assert!(matches!(open("cat", &moved, &[key("s")]), SlotContent::Damaged { .. }));
        forge_checksum("cat", &mut moved);
        assert!(matches!(open("cat", &moved, &[key("s")]), SlotContent::Damaged { .. }));
    }

    #[test]
    fn a_truncation_is_damage_everywhere() {
        let slot = sealed("t");
        for length in 0..SLOT_BYTES {
            assert!(matches!(open("bot", &slot[..length], &[key("s")]), SlotContent::Damaged { .. }), "{length} bytes");
        }
    }

    /// A write reaches the disk in sectors of 512 bytes, in any order. From empty to full: damage, the old or the new.
    #[test]
    fn a_torn_write_is_old_new_or_damage() {
        let new = sealed("t");
        for old in [vec![0_u8; SLOT_BYTES], [CLEARED.as_slice(), &vec![0; SLOT_BYTES - 16]].concat()] {
            for sector in 0..SLOT_BYTES.div_ceil(512) {
                let cut = (sector * 512).min(SLOT_BYTES);
                let prefix_written = [&new[..cut], &old[cut..]].concat();
                let suffix_written = [&old[..cut], &new[cut..]].concat();
                for torn in [prefix_written, suffix_written] {
                    match open("bot", &torn, &[key("s")]) {
                        SlotContent::Empty => assert!(torn == old || torn.starts_with(CLEARED)),
                        SlotContent::Holds { text, .. } => assert!(torn == new && text.expose_secret() == "t"),
                        SlotContent::Damaged { .. } => (),
                        SlotContent::Locked { .. } => panic!("torn slot passes as locked"),
                    }
                }
            }
        }
    }

    /// Clearing writes the mark alone first: from then on, however much of the rest is overwritten, the slot is empty.
    #[test]
    fn a_torn_clear_is_empty() {
        let mut slot = sealed("t");
        slot.splice(..CLEARED.len(), CLEARED.iter().copied());
        for zeroed in (CLEARED.len()..SLOT_BYTES).step_by(509) {
            slot[CLEARED.len()..zeroed].fill(0);
            assert!(matches!(open("bot", &slot, &[]), SlotContent::Empty));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let text = SecretString::from("x".repeat(TEXT_BYTES_MAX + 1));
        assert!(matches!(seal("bot", &binding(), &text, &key("s")), Err(SpoolError::TextTooLong(_))));
        let long = Binding { identity: "i".repeat(HEADER_BYTES), ..binding() };
        assert!(matches!(seal("bot", &long, &SecretString::from("t"), &key("s")), Err(SpoolError::BindingTooLong(_))));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", key("app-secret"), open("bot", &sealed("secret-text"), &[key("s")]));
        assert!(!shown.contains("app-secret") && !shown.contains("secret-text"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), at in 0..SLOT_BYTES) {
            let mut slot = sealed("t");
            for (to, from) in slot.iter_mut().skip(at).zip(&bytes) { *to = *from; }
            let untouched = slot == sealed("t");
            forge_checksum("bot", &mut slot);
            if let SlotContent::Holds { text, .. } = open("bot", &slot, &[key("s")]) {
                proptest::prop_assert!(!untouched && text.expose_secret() == "t");
            }
            let _content = open("bot", &bytes, &[key("s")]);
        }
    }
}
