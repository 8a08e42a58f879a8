//! Pattern sets of `portcullis.match_set` (module ABI 2): regular expressions that a rule has the host look for.
//!
//! A set is one dense automaton if that stays small: every byte is then one step, whatever the input. Otherwise it is
//! simulated state by state, and the rule pays for bytes times states. There is no lazy automaton: what it costs would
//! be the sender's choice.

use regex_automata::dfa::Automaton;
use regex_automata::dfa::dense;
use regex_automata::nfa::thompson::{self, NFA, pikevm::PikeVM};
use regex_automata::util::{primitives::StateID, syntax};
use regex_automata::{Anchored, Input, MatchKind, PatternSet as Matched};

use serde::{Deserialize, Serialize};

use crate::describe::Patterns;
use crate::quoted::one_line;

/// Bytes of one dense automaton, and what may be used to make it, which bounds how long that takes.
const DENSE_BYTES: usize = 256 << 10;
const DENSE_WORK_BYTES: usize = 1 << 20;

/// Bytes of one simulated automaton.
const NFA_BYTES: usize = 1 << 20;

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("pattern set {set}: {reason}")]
pub struct PatternError {
    /// Which set.
    set: usize,
    /// What the parser says.
    reason: String,
}

/// The pattern sets of a module, ready to search.
#[derive(Debug, Default)]
pub(crate) struct PatternSets(Vec<PatternSet>);

/// The automata of pattern sets in bytes: making one takes up to some tenths of a second, reading it a hundredth of
/// that. `None` for a set that is simulated.
pub(crate) type Automata = Vec<Option<Vec<u8>>>;

#[derive(Debug)]
enum PatternSet {
    Dense(Box<Dense>),
    Simulated { vm: Box<PikeVM>, states: u64 },
}

/// An automaton, and what a state of it matches: one look a byte, however many patterns end there.
#[derive(Debug)]
struct Dense {
    automaton: dense::DFA<Vec<u32>>,
    /// By state: the lowest pattern that it matches, or [`NONE`].
    lowest: Vec<u32>,
}

/// No pattern: there are at most 256.
const NONE: u32 = u32::MAX;

impl PatternSets {
    /// Builds the automata.
    pub(crate) fn new(sets: &[Patterns]) -> Result<Self, PatternError> {
        sets.iter()
            .enumerate()
            .map(|(set, patterns)| PatternSet::new(set, patterns))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Takes automata that [`PatternSets::to_bytes`] wrote for these sets.
    pub(crate) fn from_bytes(sets: &[Patterns], automata: &[Option<Vec<u8>>]) -> Result<Self, PatternError> {
        if sets.len() != automata.len() {
            let reason = format!("{} sets and {} automata", sets.len(), automata.len());
            return Err(PatternError { set: 0, reason });
        }
        sets.iter()
            .zip(automata)
            .enumerate()
            .map(|(set, (patterns, automaton))| match automaton {
                Some(bytes) => Dense::from_bytes(bytes)
                    .map(|dense| PatternSet::Dense(Box::new(dense)))
                    .map_err(|reason| PatternError { set, reason }),
                None => PatternSet::simulated(set, nfa(set, patterns)?),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The automata, for another process of this machine.
    pub(crate) fn to_bytes(&self) -> Automata {
        self.0
            .iter()
            .map(|set| match set {
                PatternSet::Dense(dense) => Some(dense.to_bytes()),
                PatternSet::Simulated { .. } => None,
            })
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What searching `bytes` costs; `None` if there is no such set.
    pub(crate) fn fuel(&self, set: u32, bytes: u64) -> Option<u64> {
        Some(match self.0.get(set as usize)? {
            PatternSet::Dense(_) => bytes,
            // One byte more for the lists of states, which are made for each search.
            PatternSet::Simulated { states, .. } => bytes.saturating_add(1).saturating_mul(*states),
        })
    }

    /// The lowest index of the patterns that match somewhere in `text`.
    pub(crate) fn find(&self, set: u32, text: &[u8]) -> Option<u32> {
        match self.0.get(set as usize)? {
            PatternSet::Dense(dense) => dense.find(text),
            PatternSet::Simulated { vm, .. } => {
                let mut matched = Matched::new(vm.pattern_len());
                vm.which_overlapping_matches(&mut vm.create_cache(), &Input::new(text), &mut matched);
                matched.iter().next().map(|pattern| pattern.as_u32())
            }
        }
    }
}

impl PatternSet {
    fn new(set: usize, patterns: &Patterns) -> Result<Self, PatternError> {
        let nfa = nfa(set, patterns)?;
        let dense = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .match_kind(MatchKind::All)
                    .start_kind(regex_automata::dfa::StartKind::Unanchored)
                    .dfa_size_limit(Some(DENSE_BYTES))
                    .determinize_size_limit(Some(DENSE_WORK_BYTES)),
            )
            .build_from_nfa(&nfa);
        match dense {
            Ok(dense) => Ok(Self::Dense(Box::new(Dense::new(dense)))),
            Err(_) => Self::simulated(set, nfa),
        }
    }

    fn simulated(set: usize, nfa: NFA) -> Result<Self, PatternError> {
        let states = nfa.states().len() as u64;
        let vm = PikeVM::builder()
            .configure(PikeVM::config().match_kind(MatchKind::All))
            .build_from_nfa(nfa)
            .map_err(|error| PatternError { set, reason: in_full(&error) })?;
        Ok(Self::Simulated { vm: Box::new(vm), states })
    }
}

fn nfa(set: usize, Patterns { patterns, .. }: &Patterns) -> Result<NFA, PatternError> {
    thompson::Compiler::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(NFA_BYTES))
                .which_captures(thompson::WhichCaptures::None),
        )
        .build_many(patterns)
        .map_err(|error| PatternError { set, reason: in_full(&error) })
}

impl Dense {
    fn new(automaton: dense::DFA<Vec<u32>>) -> Self {
        let mut lowest = Vec::new();
        let mut open: Vec<StateID> = automaton.start_state_forward(&Input::new("")).into_iter().collect();
        while let Some(state) = open.pop() {
            let index = index(&automaton, state);
            if lowest.len() <= index {
                lowest.resize(index + 1, None);
            }
            if lowest[index].is_some() {
                continue;
            }
            let matches = if automaton.is_match_state(state) { automaton.match_len(state) } else { 0 };
            let patterns = (0..matches).map(|at| automaton.match_pattern(state, at).as_u32());
            lowest[index] = Some(patterns.min().unwrap_or(NONE));
            open.extend(automaton.byte_classes().representatives(..).map(|unit| match unit.as_u8() {
                Some(byte) => automaton.next_state(state, byte),
                None => automaton.next_eoi_state(state),
            }));
        }
        Self { lowest: lowest.into_iter().map(|pattern| pattern.unwrap_or(NONE)).collect(), automaton }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let (bytes, padding) = self.automaton.to_bytes_native_endian();
        bytes[padding..].to_vec()
    }

    /// Checks what it reads, so that no search leaves its tables.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        // Its tables are of numbers, which lie at multiples of their size.
        let mut aligned = vec![0; bytes.len() + align_of::<u32>()];
        let start = aligned.as_ptr().align_offset(align_of::<u32>());
        let aligned = &mut aligned[start..start + bytes.len()];
        aligned.copy_from_slice(bytes);
        let (automaton, read) = dense::DFA::from_bytes(aligned).map_err(|error| in_full(&error))?;
        if read != bytes.len() {
            return Err(format!("{read} bytes of {} are an automaton", bytes.len()));
        }
        Ok(Self::new(automaton.to_owned()))
    }

    /// Walks over all of the text: one step a byte, and one look where something matches.
    fn find(&self, text: &[u8]) -> Option<u32> {
        let automaton = &self.automaton;
        let mut state = automaton.start_state_forward(&Input::new(text).anchored(Anchored::No)).ok()?;
        let mut lowest = NONE;
        for &byte in text {
            state = automaton.next_state(state, byte);
            if automaton.is_special_state(state) {
                lowest = lowest.min(self.lowest[index(automaton, state)]);
                // Nothing is lower than the first.
                if lowest == 0 || automaton.is_dead_state(state) {
                    return (lowest != NONE).then_some(lowest);
                }
            }
        }
        let end = automaton.next_eoi_state(state);
        lowest = lowest.min(self.lowest[index(automaton, end)]);
        (lowest != NONE).then_some(lowest)
    }
}

/// The number of a state; its id is where its row of the table begins.
fn index(automaton: &dense::DFA<Vec<u32>>, state: StateID) -> usize {
    state.as_usize() >> automaton.stride2()
}

/// An error with its causes: regex-automata keeps the position in the pattern there.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(patterns: &[&str]) -> PatternSets {
        let patterns = patterns.iter().map(ToString::to_string).collect();
        PatternSets::new(&[Patterns { name: String::new(), patterns }]).unwrap()
    }

    #[test]
    fn the_lowest_pattern_that_matches_anywhere() {
        let sets = sets(&[r"(?i)union\s+select", r"<script", r"x$", r"[\x80-\xff]{2}"]);
        assert_eq!(sets.find(0, b"1 UNION  SELECT 2 <script"), Some(0));
        assert_eq!(sets.find(0, b"<script union"), Some(1));
        assert_eq!(sets.find(0, b"ends with x"), Some(2));
        assert_eq!(sets.find(0, b"x y"), None);
        assert_eq!(sets.find(0, b"\xfe\xff"), Some(3));
        assert_eq!(sets.find(0, b""), None);
        assert_eq!(sets.find(1, b"<script"), None);
        assert_eq!(sets.fuel(0, 100), Some(100));
        assert_eq!(sets.fuel(1, 100), None);
    }

    #[test]
    fn patterns_too_large_for_a_table_are_simulated_and_cost_more() {
        let sets = sets(&[r"a.{100}b.{100}c", "needle"]);
        assert!(matches!(sets.0[0], PatternSet::Simulated { .. }));
        assert!(sets.fuel(0, 100).unwrap() > 20_000);
        assert_eq!(sets.find(0, b"a needle in hay"), Some(1));
    }

    #[test]
    fn the_lowest_is_told_of_many_that_end_in_the_same_place() {
        let patterns: Vec<String> = (0..200)
            .map(|n| if n == 199 { "ba".into() } else { format!("x{{{}}}[ab]", n % 2 + 1) })
            .collect();
        let sets = sets(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(matches!(sets.0[0], PatternSet::Dense(_)));
        assert_eq!(sets.find(0, b"abababa"), Some(199));
        assert_eq!(sets.find(0, b"ababaxb"), Some(0));
        assert_eq!(sets.find(0, b"bbbb"), None);
    }

    #[test]
    fn a_search_of_nothing_in_a_simulated_set_is_not_free() {
        let sets = sets(&[r"a.{100}b.{100}c"]);
        assert!(sets.fuel(0, 0).unwrap() > 200);
    }

    #[test]
    fn what_was_written_finds_the_same_and_what_was_cut_off_is_refused() {
        let described: Vec<Patterns> =
            [&["union", r"sel[e3]ct\s", "x$"][..], &[r"a.{100}b.{100}c", "needle"], &["z"]]
                .map(|patterns| Patterns {
                    name: String::new(),
                    patterns: patterns.iter().map(ToString::to_string).collect(),
                })
                .into();
        let made = PatternSets::new(&described).unwrap();
        let written = made.to_bytes();
        assert_eq!(written.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        let read = PatternSets::from_bytes(&described, &written).unwrap();
        for text in [&b"a sel3ct b"[..], b"union", b"x", b"z needle", b"", b"zzz\xff"] {
            for set in 0..3 {
                assert_eq!(read.find(set, text), made.find(set, text), "set {set}, {text:?}");
                assert_eq!(read.fuel(set, 100), made.fuel(set, 100));
            }
        }
        assert!(PatternSets::from_bytes(&described, &written[..2]).is_err());
        let whole = written[0].as_ref().unwrap();
        let mut more = whole.clone();
        more.extend([0; 4]);
        for broken in [&whole[..whole.len() - 4], &whole[4..], &[], &more] {
            let broken = vec![Some(broken.to_vec()), None, written[2].clone()];
            assert!(PatternSets::from_bytes(&described, &broken).is_err());
        }
    }

    #[test]
    fn a_pattern_that_is_none_says_where() {
        let error = PatternSets::new(&[Patterns { name: String::new(), patterns: vec!["a(".into()] }]);
        assert!(error.unwrap_err().to_string().contains("unclosed group"));
    }
}
