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
    fn new(set: usize, Patterns { patterns, .. }: &Patterns) -> Result<Self, PatternError> {
        let failed = |reason: String| PatternError { set, reason };
        let nfa: NFA = thompson::Compiler::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(NFA_BYTES))
                    .which_captures(thompson::WhichCaptures::None),
            )
            .build_many(patterns)
            .map_err(|error| failed(in_full(&error)))?;
        let dense = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .match_kind(MatchKind::All)
                    .start_kind(regex_automata::dfa::StartKind::Unanchored)
                    .dfa_size_limit(Some(DENSE_BYTES))
                    .determinize_size_limit(Some(DENSE_WORK_BYTES)),
            )
            .build_from_nfa(&nfa);
        if let Ok(dense) = dense {
            return Ok(Self::Dense(Box::new(Dense::new(dense))));
        }
        let states = nfa.states().len() as u64;
        let vm = PikeVM::builder()
            .configure(PikeVM::config().match_kind(MatchKind::All))
            .build_from_nfa(nfa)
            .map_err(|error| failed(in_full(&error)))?;
        Ok(Self::Simulated { vm: Box::new(vm), states })
    }
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
    fn a_pattern_that_is_none_says_where() {
        let error = PatternSets::new(&[Patterns { name: String::new(), patterns: vec!["a(".into()] }]);
        assert!(error.unwrap_err().to_string().contains("unclosed group"));
    }
}
