//! The rules of the addresses met so far, in a word each, for all threads and without a lock.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{CALLS_PUSH, Framed, Rule};
use crate::recorder::sys;

/// Pairs of entries of the shared table: 256 KiB in all, of which only what is used is resident.
const PAIRS: usize = 1 << PAIR_BITS;
const PAIR_BITS: u32 = 14;
/// Code has no address that is longer.
const ADDRESS_BITS: u32 = 48;
/// The rest of an entry is what tells the addresses apart that share a pair.
const RULE_BITS: u32 = 64 - (ADDRESS_BITS - PAIR_BITS);

/// The rules of the addresses met so far.
///
/// An entry is one word: in its lower [`RULE_BITS`] a rule, 0 for none, and above them the lower bits of
/// its spread address, whose upper bits say which pair it is in. Spreading makes no two addresses one.
///
/// With single entries, of 5,000 addresses that are asked for one in fifteen shares its entry with another one,
/// and evaluating the two in turn takes thousands of instructions each time.
#[derive(Debug)]
pub(in crate::recorder) struct Rules {
    pairs: NonNull<[AtomicU64; 2]>,
}

// SAFETY: the entries are atomics, mapped as long as the process lives.
unsafe impl Send for Rules {}
// SAFETY: as above.
unsafe impl Sync for Rules {}

impl Rules {
    /// An empty table; `None` where memory is short.
    pub(in crate::recorder) fn new() -> Option<Self> {
        let pairs = sys::map_anonymous(PAIRS * size_of::<[AtomicU64; 2]>())?.cast();
        Some(Self { pairs })
    }

    /// The rule for the code at `address`, if it is in the table.
    #[inline(always)]
    pub(in crate::recorder) fn find(&self, address: u64) -> Option<Packed> {
        let is_rule = |rule: u64| rule != 0 && rule >> RULE_BITS == 0;
        self.find_any(address, is_rule)
    }

    /// The rule for the code at `address`, if it is in the table, a [`Framed`] and of code that stays.
    #[inline(always)]
    pub(in crate::recorder) fn find_plain(&self, address: u64) -> Option<Packed> {
        let plain = u64::MAX << RULE_BITS | u64::from(FORM | LATE);
        self.find_any(address, |rule| rule & plain == u64::from(FRAMED))
    }

    /// The rule in either place that is one.
    #[inline(always)]
    fn find_any(&self, address: u64, is_rule: impl Fn(u64) -> bool) -> Option<Packed> {
        let spread = spread(address);
        let [one, other] = self.pair(spread);
        let [one, other] =
            [one, other].map(|entry| entry.load(Ordering::Relaxed) ^ spread << RULE_BITS);
        let rule = if is_rule(other) { other } else { one };
        is_rule(rule).then_some(Packed(rule as u32))
    }

    /// Puts a rule into the table, if it has a packed form. `late`: the code can be unloaded.
    pub(in crate::recorder) fn insert(&self, address: u64, rule: &Rule, late: bool) {
        if let Some(Packed(rule)) = Packed::new(rule)
            && address >> ADDRESS_BITS == 0
        {
            let rule = if late { rule | LATE } else { rule };
            let spread = spread(address);
            let [newer, older] = self.pair(spread);
            let entry = spread << RULE_BITS | u64::from(rule);
            let before = newer.load(Ordering::Relaxed);
            if before != 0 && before >> RULE_BITS != entry >> RULE_BITS {
                older.store(before, Ordering::Relaxed);
            }
            newer.store(entry, Ordering::Relaxed);
        }
    }

    /// Forgets everything.
    pub(in crate::recorder) fn clear(&self) {
        for index in 0..PAIRS {
            // SAFETY: the mapping holds `PAIRS` pairs.
            let pair = unsafe { self.pairs.add(index) };
            // SAFETY: mapped, and zero is a valid pair.
            for entry in unsafe { pair.as_ref() } {
                if entry.load(Ordering::Relaxed) != 0 {
                    entry.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    #[inline(always)]
    fn pair(&self, spread: u64) -> &[AtomicU64; 2] {
        let index = (spread >> (64 - RULE_BITS)) as usize & (PAIRS - 1);
        // SAFETY: the index is masked to the number of pairs.
        let pair = unsafe { self.pairs.add(index) };
        // SAFETY: mapped as long as the process lives, and zero is a valid pair.
        unsafe { pair.as_ref() }
    }
}

/// Mixes an address, so that those near each other are spread: a factor that is odd leaves any two of
/// them two, of the same length.
#[inline(always)]
const fn spread(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A rule in [`RULE_BITS`]: a form in bits 0-1 (never 0), then for [`Framed`] the register in bit 2; in
/// bit 3 whether the code can be unloaded; then in [`SAVED_BITS`] what was saved where, and in the rest
/// how far the caller's stack pointer is from the register, in words.
///
/// What was saved is counted in words below the caller's stack pointer, 0 for what is in its register.
/// Where calls push their return address, that is the frame pointer. Elsewhere it is the return address,
/// and the lowest bit says whether the frame pointer was saved directly below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recorder) struct Packed(u32);

const FORM: u32 = 3;
const FRAMED: u32 = 1;
const OUTERMOST: u32 = 2;
const UNKNOWN: u32 = 3;
const FROM_FRAME_POINTER: u32 = 1 << 2;
const LATE: u32 = 1 << 3;
const SAVED: u32 = 4;
const SAVED_BITS: u32 = if CALLS_PUSH { 8 } else { 13 };
const STACK_POINTER: u32 = SAVED + SAVED_BITS;

impl Packed {
    /// `None` for a rule that does not fit. Where calls push their return address, that is so for
    /// every rule that has it elsewhere.
    pub(in crate::recorder) fn new(rule: &Rule) -> Option<Self> {
        let Framed {
            from_frame_pointer,
            stack_pointer_offset,
            return_address_offset,
            frame_pointer_offset,
        } = match rule {
            Rule::Outermost => return Some(Self(OUTERMOST)),
            Rule::Unknown => return Some(Self(UNKNOWN)),
            Rule::General(_) => return None,
            Rule::Framed(framed) => *framed,
        };
        let words = |bytes: i64, bits: u32| {
            let words = u32::try_from(bytes / 8).ok()?;
            (bytes % 8 == 0 && words >> bits == 0).then_some(words)
        };
        let below = |offset: Option<i64>, bits: u32| match offset {
            None => Some(0),
            Some(offset) => words(offset.wrapping_neg(), bits).filter(|&words| words != 0),
        };
        let saved = if CALLS_PUSH {
            if return_address_offset != Some(-8) {
                return None;
            }
            below(frame_pointer_offset, SAVED_BITS)?
        } else {
            let return_address = below(return_address_offset, SAVED_BITS - 1)?;
            match below(frame_pointer_offset, SAVED_BITS)? {
                0 => return_address << 1,
                below if return_address != 0 && below == return_address + 1 => {
                    return_address << 1 | 1
                }
                _ => return None,
            }
        };
        let stack_pointer = words(stack_pointer_offset, RULE_BITS - STACK_POINTER)?;
        let register = if from_frame_pointer { FROM_FRAME_POINTER } else { 0 };
        Some(Self(FRAMED | register | saved << SAVED | stack_pointer << STACK_POINTER))
    }

    /// Whether the code can be unloaded.
    pub(in crate::recorder) const fn is_late(self) -> bool {
        self.0 & LATE != 0
    }

    /// Of a [`Framed`]: whether the offset counts from the frame pointer.
    #[inline(always)]
    pub(in crate::recorder) const fn is_from_frame_pointer(self) -> bool {
        self.0 & FROM_FRAME_POINTER != 0
    }

    /// Of a [`Framed`]: from that register to the caller's stack pointer, in bytes.
    #[inline(always)]
    pub(in crate::recorder) const fn stack_pointer_offset(self) -> u64 {
        (self.0 >> STACK_POINTER) as u64 * 8
    }

    /// Of a [`Framed`]: from the caller's stack pointer to the return address, in words.
    #[inline(always)]
    pub(in crate::recorder) const fn return_address_slot(self) -> Option<i16> {
        if CALLS_PUSH {
            return Some(-1);
        }
        let below = self.saved() >> 1;
        if below == 0 { None } else { Some(-below) }
    }

    /// Of a [`Framed`]: from the caller's stack pointer to the frame pointer, in words.
    #[inline(always)]
    pub(in crate::recorder) const fn frame_pointer_slot(self) -> Option<i16> {
        let saved = self.saved();
        let below = match (CALLS_PUSH, saved & 1) {
            (true, _) => saved,
            (false, 0) => 0,
            (false, _) => (saved >> 1) + 1,
        };
        if below == 0 { None } else { Some(-below) }
    }

    #[inline(always)]
    const fn saved(self) -> i16 {
        (self.0 >> SAVED & ((1 << SAVED_BITS) - 1)) as i16
    }

    /// The rule that was packed.
    pub(in crate::recorder) fn unpack(self) -> Rule {
        let bytes = |slot: i16| i64::from(slot) * 8;
        match self.0 & FORM {
            FRAMED => Rule::Framed(Framed {
                from_frame_pointer: self.is_from_frame_pointer(),
                stack_pointer_offset: self.stack_pointer_offset().cast_signed(),
                return_address_offset: self.return_address_slot().map(bytes),
                frame_pointer_offset: self.frame_pointer_slot().map(bytes),
            }),
            OUTERMOST => Rule::Outermost,
            _ => Rule::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn framed(from_frame_pointer: bool, offsets: [Option<i64>; 3]) -> Rule {
        Rule::Framed(Framed {
            from_frame_pointer,
            stack_pointer_offset: offsets[0].unwrap_or_default(),
            return_address_offset: offsets[1],
            frame_pointer_offset: offsets[2],
        })
    }

    #[test]
    fn a_rule_survives_packing() {
        let deepest = 8 * ((1 << (RULE_BITS - STACK_POINTER)) - 1);
        for rule in [
            framed(false, [Some(8), Some(-8), None]),
            framed(true, [Some(16), Some(-8), Some(-16)]),
            framed(true, [Some(deepest), Some(-8), None]),
            framed(false, [Some(0), Some(-8), Some(-16)]),
            Rule::Outermost,
            Rule::Unknown,
        ] {
            assert_eq!(Packed::new(&rule).map(Packed::unpack), Some(rule));
        }
        let elsewhere = [
            framed(true, [Some(16), Some(-32_752), Some(-32_760)]),
            framed(false, [Some(64), Some(-64), None]),
            framed(false, [Some(64), None, None]),
        ];
        for rule in elsewhere {
            let expected = if CALLS_PUSH { None } else { Some(rule) };
            assert_eq!(Packed::new(&rule).map(Packed::unpack), expected);
        }
        let apart = framed(true, [Some(16), Some(-8), Some(-2_040)]);
        let expected = if CALLS_PUSH { Some(apart) } else { None };
        assert_eq!(Packed::new(&apart).map(Packed::unpack), expected);
    }

    #[test]
    fn a_rule_that_does_not_fit_is_not_packed() {
        let too_deep = 8 << (RULE_BITS - STACK_POINTER);
        for rule in [
            framed(false, [Some(12), Some(-8), None]),
            framed(false, [Some(too_deep), Some(-8), None]),
            framed(false, [Some(-8), Some(-8), None]),
            framed(false, [Some(8), Some(8), None]),
            framed(false, [Some(8), Some(-32_768), None]),
            framed(false, [Some(8), Some(-8), Some(0)]),
            framed(false, [Some(8), Some(-8), Some(-20)]),
            framed(false, [Some(8), Some(-8), Some(-65_536)]),
        ] {
            assert_eq!(Packed::new(&rule), None, "{rule:?}");
        }
    }

    #[test]
    fn addresses_that_differ_in_any_bit_have_rules_of_their_own() {
        let rules = Rules::new().expect("memory");
        let rule = framed(false, [Some(8), Some(-8), None]);
        let address = 0x5555_5555_4321;
        rules.insert(address, &rule, false);
        assert_eq!(rules.find(address).map(Packed::unpack), Some(rule));
        for bit in 0..ADDRESS_BITS {
            assert_eq!(rules.find(address ^ 1 << bit), None, "bit {bit}");
        }
        // No code lies that high.
        rules.insert(1 << ADDRESS_BITS | 0x1234, &rule, false);
        assert_eq!(rules.find(0x1234), None);
    }

    #[test]
    fn the_table_finds_what_was_put_in_and_nothing_else() {
        let rules = Rules::new().expect("memory");
        assert_eq!(rules.find(0), None);
        assert_eq!(rules.find(0x1234), None);
        let rule = framed(true, [Some(16), Some(-8), Some(-16)]);
        let found = |address| rules.find(address).map(|rule| (rule.unpack(), rule.is_late()));
        rules.insert(0x1234, &rule, false);
        assert_eq!(found(0x1234), Some((rule, false)));
        assert_eq!(rules.find_plain(0x1234), rules.find(0x1234));
        rules.insert(0x5678, &rule, true);
        assert_eq!(found(0x5678), Some((rule, true)));
        assert_eq!(rules.find_plain(0x5678), None);
        assert_eq!([rules.find(0x1235), rules.find_plain(0x1235)], [None, None]);
        rules.insert(0x9abc, &Rule::Outermost, false);
        assert_eq!(found(0x9abc), Some((Rule::Outermost, false)));
        assert_eq!(rules.find_plain(0x9abc), None);
        rules.clear();
        assert_eq!(rules.find(0x1234), None);
    }

    #[test]
    fn two_addresses_that_share_a_pair_are_both_found() {
        let rules = Rules::new().expect("memory");
        let pair = |address| ptr::from_ref(rules.pair(spread(address)));
        let first = 0x5555_5555_4321;
        let mut others = (1..u64::MAX).map(|step| first + step);
        let others = [0; 2].map(|_| others.find(|&other| pair(other) == pair(first)).expect("one"));
        let [second, third] = others;
        let rule = |words: i64| framed(false, [Some(8 * words), Some(-8), None]);
        let found = |address| rules.find(address).map(Packed::unpack);
        rules.insert(first, &rule(1), false);
        rules.insert(second, &rule(2), false);
        rules.insert(second, &rule(3), false);
        assert_eq!([first, second].map(found), [Some(rule(1)), Some(rule(3))]);
        assert_eq!(rules.find_plain(first), rules.find(first));
        rules.insert(third, &rule(4), false);
        assert_eq!([first, second, third].map(found), [None, Some(rule(3)), Some(rule(4))]);
    }
}
