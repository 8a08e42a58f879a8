//! Decides natively which rules have anything to say about a request (design/engine.md). A rule may promise that it
//! allows whatever holds none of a few literals; those of all rules go into one Aho-Corasick automaton, and Wasm is
//! entered only for the rules that are left.
//!
//! What a request can cost here is bounded by its length: each byte is one step of the automaton, and what a state of
//! it matches is looked at once a section. So there is no budget to run out of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous;
use aho_corasick::{Anchored, PatternID, StartKind, dfa};
use portcullis_view::{Flags, SectionId, Sections, View};

use crate::describe::Literals;
use crate::phase::Phase;

/// Bytes of literals up to which the automaton is a table with a row a state: about 256 bytes a state, so 4 MiB. Beyond
/// it is six times smaller and three times slower.
const DENSE_BYTES: usize = 16 << 10;

/// Sections that are not what was sent. Not the ambiguous ones: a rule sees of those what is searched here, and an
/// attacker could have every rule run with one `;`.
const UNSOUND: Flags = Flags::from_bits(Flags::MALFORMED.bits() | Flags::TRUNCATED.bits());

/// Why there is no automaton.
#[derive(Debug, thiserror::Error)]
#[error(
    "the literals of all prefilters together are too many for an automaton: {0}; every rule is run on every request"
)]
pub struct PrefilterError(#[from] aho_corasick::BuildError);

/// Which rules of a list a request concerns. Built off the request path, read by any number of threads.
#[derive(Debug)]
pub struct Prefilter {
    rules: usize,
    /// Rules that are run on every request. Rules are added when they break their promise.
    always: Box<[AtomicU64]>,
    /// By section: rules that stand if it cannot be searched.
    depending: Vec<(SectionId, Bits)>,
    search: Option<Search>,
}

#[derive(Debug)]
struct Search {
    automaton: Kind,
    /// `candidates[begins[p]..begins[p + 1]]` belong to literal `p`.
    begins: Vec<u32>,
    candidates: Vec<(u32, SectionId)>,
}

#[derive(Debug)]
enum Kind {
    Dense(dfa::DFA),
    Sparse(contiguous::NFA),
}

/// What one search needs; kept by a worker, so that a request allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    candidates: Bits,
    /// The pass in which the matches that begin with this literal were seen last.
    seen: Vec<u32>,
    pass: u32,
}

// === impl Prefilter ===

impl Prefilter {
    /// Of the rules of a phase in order, each with the literals it promises; one without any is always run. Sections that
    /// the phase cannot have hold nothing.
    ///
    /// # Errors
    /// There are too many literals.
    pub fn new<'a>(
        phase: Phase,
        rules: impl IntoIterator<Item = &'a [Literals]>,
    ) -> Result<Self, PrefilterError> {
        let mut plan = Plan { possible: phase.sections(), ..Plan::default() };
        for literals in rules {
            plan.add(literals);
        }
        plan.build()
    }

    /// Rules in the list.
    pub fn rules(&self) -> usize {
        self.rules
    }

    /// Rules that are run on every request.
    pub fn unfiltered(&self) -> usize {
        self.always.iter().map(|word| word.load(Relaxed).count_ones() as usize).sum()
    }

    /// From now on this rule is run on every request, whatever it promised.
    ///
    /// # Panics
    ///
    /// If there is no such rule.
    pub fn distrust(&self, rule: usize) {
        assert!(rule < self.rules, "rule {rule} of {}", self.rules);
        self.always[rule / 64].fetch_or(1 << (rule % 64), Relaxed);
    }

    /// Bytes that the automaton takes.
    pub fn memory_bytes(&self) -> usize {
        self.search.as_ref().map_or(0, |search| match &search.automaton {
            Kind::Dense(automaton) => automaton.memory_usage(),
            Kind::Sparse(automaton) => automaton.memory_usage(),
        })
    }

    /// The rules to run on this request, by their index.
    pub fn candidates<'s>(&self, view: &View, scratch: &'s mut Scratch) -> &'s Bits {
        scratch.candidates.copy_from(self.always.iter().map(|word| word.load(Relaxed)));
        for (id, depending) in &self.depending {
            match view.section(*id) {
                Some(section) if !section.flags().intersects(UNSOUND) => {
                    if let Some(search) = &self.search {
                        search.run(*id, section.heap(), scratch);
                    }
                }
                _ => scratch.candidates.add(depending),
            }
        }
        &scratch.candidates
    }
}

impl Search {
    fn run(&self, section: SectionId, bytes: &[u8], scratch: &mut Scratch) {
        match &self.automaton {
            Kind::Dense(automaton) => self.walk(automaton, section, bytes, scratch),
            Kind::Sparse(automaton) => self.walk(automaton, section, bytes, scratch),
        }
    }

    #[inline(always)]
    fn walk(&self, automaton: &impl Automaton, section: SectionId, bytes: &[u8], scratch: &mut Scratch) {
        scratch.next_pass(self.begins.len());
        let mut state =
            automaton.start_state(Anchored::No).expect("the automaton was built for unanchored searches");
        for &byte in bytes {
            state = automaton.next_state(Anchored::No, state, byte);
            if automaton.is_special(state) && automaton.is_match(state) {
                self.matched(automaton, state, section, scratch);
            }
        }
    }

    /// What else a state matches are the suffixes of its first literal, so that literal stands for all of them.
    #[cold]
    fn matched(&self, automaton: &impl Automaton, state: StateID, section: SectionId, scratch: &mut Scratch) {
        let first = automaton.match_pattern(state, 0).as_usize();
        if std::mem::replace(&mut scratch.seen[first], scratch.pass) == scratch.pass {
            return;
        }
        for index in 0..automaton.match_len(state) {
            for (rule, of) in self.rules_of(automaton.match_pattern(state, index)) {
                if *of == section {
                    scratch.candidates.set(*rule as usize);
                }
            }
        }
    }

    fn rules_of(&self, literal: PatternID) -> &[(u32, SectionId)] {
        let literal = literal.as_usize();
        &self.candidates[self.begins[literal] as usize..self.begins[literal + 1] as usize]
    }
}

impl Scratch {
    fn next_pass(&mut self, literals: usize) {
        if self.seen.len() < literals {
            self.seen.resize(literals, 0);
        }
        self.pass = self.pass.checked_add(1).unwrap_or_else(|| {
            self.seen.fill(0);
            1
        });
    }
}

/// What the rules promise, sorted for the automaton.
#[derive(Default)]
struct Plan {
    possible: Sections,
    rules: usize,
    always: Bits,
    depending: Vec<(SectionId, Bits)>,
    literals: Vec<(String, u32, SectionId)>,
}

impl Plan {
    fn add(&mut self, literals: &[Literals]) {
        let rule = self.rules;
        self.rules += 1;
        if literals.is_empty() {
            self.always.set(rule);
            return;
        }
        let number = u32::try_from(rule).expect("rules are counted in thousands");
        for list in literals {
            let section = list.section();
            if !self.possible.contains(section) {
                continue;
            }
            let known = self.depending.iter_mut().find(|(id, _)| *id == section);
            match known {
                Some((_, bits)) => bits.set(rule),
                None => {
                    let mut bits = Bits::default();
                    bits.set(rule);
                    self.depending.push((section, bits));
                }
            }
            self.literals
                .extend(list.literals.iter().map(|literal| (literal.to_ascii_lowercase(), number, section)));
        }
    }

    fn build(mut self) -> Result<Prefilter, PrefilterError> {
        self.always.resize(self.rules);
        let always = self.always.0.into_iter().map(AtomicU64::new).collect();
        self.depending.iter_mut().for_each(|(_, bits)| bits.resize(self.rules));
        self.depending.sort_by_key(|(section, _)| *section);
        let search = if self.literals.is_empty() { None } else { Some(Search::new(self.literals)?) };
        Ok(Prefilter { rules: self.rules, always, depending: self.depending, search })
    }
}

impl Search {
    fn new(mut literals: Vec<(String, u32, SectionId)>) -> Result<Self, PrefilterError> {
        literals.sort();
        literals.dedup();
        let (mut patterns, mut begins, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        for (literal, rule, section) in literals {
            if patterns.last() != Some(&literal) {
                begins.push(u32::try_from(candidates.len()).expect("bounded by rules times literals"));
                patterns.push(literal);
            }
            candidates.push((rule, section));
        }
        begins.push(u32::try_from(candidates.len()).expect("bounded by rules times literals"));
        let bytes: usize = patterns.iter().map(String::len).sum();
        let automaton = if bytes <= DENSE_BYTES {
            let mut builder = dfa::Builder::new();
            builder.ascii_case_insensitive(true).prefilter(false).start_kind(StartKind::Unanchored);
            Kind::Dense(builder.build(&patterns)?)
        } else {
            let mut builder = contiguous::Builder::new();
            builder.ascii_case_insensitive(true).prefilter(false);
            Kind::Sparse(builder.build(&patterns)?)
        };
        Ok(Self { automaton, begins, candidates })
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Whether a number is in it.
    pub fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| index * 64 + word.trailing_zeros() as usize)
        })
    }

    fn set(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn resize(&mut self, numbers: usize) {
        self.0.resize(numbers.div_ceil(64), 0);
    }

    fn copy_from(&mut self, words: impl Iterator<Item = u64>) {
        self.0.clear();
        self.0.extend(words);
    }

    fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}
