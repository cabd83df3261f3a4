//! Finds modules by words: in their name, description, inputs and README.
//!
//! Every word of a query must begin a word of the module. A name counts most, a README least.

use std::collections::{BTreeMap, HashMap};

use stile_protocol::names::{ModuleAddress, System};

use crate::package::{SearchText, Version, lower_case, split_words, words_of};

/// The most bytes of a query.
const MAX_QUERY: usize = 256;

/// The most words of a query. Further words would only cost time.
const MAX_TERMS: usize = 8;

/// A module as the search finds it: its latest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchEntry {
    /// The address.
    pub address: ModuleAddress,
    /// The latest version.
    pub version: Version,
    /// The time of its publication, in Unix seconds.
    pub published_at: i64,
    /// The text of that version.
    pub text: SearchText,
}

/// A module that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundModule {
    /// The address.
    pub address: ModuleAddress,
    /// The latest version.
    pub version: Version,
    /// The time of its publication, in Unix seconds.
    pub published_at: i64,
    /// The description, if the version has one.
    pub description: Option<String>,
}

/// A query: words, and optionally one system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    terms: Vec<String>,
    system: Option<System>,
}

/// The error for a query that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`q` must have at most {MAX_QUERY} bytes and {MAX_TERMS} words")]
pub struct QueryTooLong;

impl SearchQuery {
    /// Parses the words of a query. Without a word, it finds every module.
    ///
    /// # Errors
    ///
    /// [`QueryTooLong`], if it has too many bytes or words.
    pub fn parse(text: &str, system: Option<System>) -> Result<Self, QueryTooLong> {
        if text.len() > MAX_QUERY {
            return Err(QueryTooLong);
        }
        let terms: Vec<String> = split_words(text).map(lower_case).collect();
        if terms.len() > MAX_TERMS {
            return Err(QueryTooLong);
        }
        Ok(Self { terms, system })
    }
}

/// How much a word counts at its place in a module.
const WEIGHTS: [u8; 4] = [8, 4, 2, 1];

/// The modules of one namespace, by their words.
#[derive(Debug, Default)]
pub struct SearchIndex {
    /// Only what an answer shows of them. The texts are in `words`.
    modules: Vec<FoundModule>,
    /// For each word, the modules that have it. The lowest four bits of a number are the weight.
    words: BTreeMap<String, Vec<u32>>,
}

/// The words of an index while it is created: a hash map, because there are a million of them.
#[derive(Default)]
struct Words(HashMap<String, Vec<u32>>);

impl Words {
    /// Adds a word of a module. The places of a module come in the order of their weights, so only the
    /// first one counts.
    fn add(&mut self, word: &str, at: u32, weight: u8) {
        let packed = at << 4 | u32::from(weight);
        match self.0.get_mut(word) {
            Some(found) if found.last().is_some_and(|last| last >> 4 == at) => {}
            Some(found) => found.push(packed),
            None => {
                self.0.insert(word.to_owned(), vec![packed]);
            }
        }
    }
}

impl SearchIndex {
    /// Creates the index of some modules.
    pub fn new(entries: Vec<SearchEntry>) -> Self {
        let mut words = Words::default();
        let mut modules = Vec::with_capacity(entries.len());
        for (at, entry) in (0_u32..).zip(entries) {
            let SearchEntry { address, version, published_at, text } = entry;
            let name = format!("{} {}", address.name, address.system);
            let [in_name, in_description, in_inputs, in_readme] = WEIGHTS;
            words_of(&name).for_each(|word| words.add(&word, at, in_name));
            let description = text.description.as_deref().unwrap_or_default();
            words_of(description).for_each(|word| words.add(&word, at, in_description));
            for input in text.inputs() {
                words_of(input).for_each(|word| words.add(&word, at, in_inputs));
            }
            text.words().iter().for_each(|word| words.add(word, at, in_readme));
            let description = text.description;
            modules.push(FoundModule { address, version, published_at, description });
        }
        Self { modules, words: words.0.into_iter().collect() }
    }

    /// Returns the number of modules.
    pub const fn len(&self) -> usize {
        self.modules.len()
    }

    /// Returns whether there is no module.
    pub const fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Returns the modules that have every word of the query, each with its score.
    pub fn find(&self, query: &SearchQuery) -> Vec<(u32, &FoundModule)> {
        // Without a word, every module counts the same.
        let mut terms = query.terms.iter().map(|term| self.having(term));
        let first = terms.next().unwrap_or_else(|| vec![1; self.modules.len()]);
        let scores = terms.fold(first, |mut before, found| {
            for (sum, score) in before.iter_mut().zip(found) {
                *sum = if *sum == 0 || score == 0 { 0 } else { *sum + score };
            }
            before
        });
        let is_wanted = |module: &FoundModule| match &query.system {
            None => true,
            Some(system) => module.address.system == *system,
        };
        let found = scores.into_iter().zip(&self.modules);
        found.filter(|(score, module)| *score > 0 && is_wanted(module)).collect()
    }

    /// Returns the score of each module: 0 without a word that begins with the term. A whole word
    /// counts twice.
    fn having(&self, term: &str) -> Vec<u32> {
        let mut scores = vec![0; self.modules.len()];
        let words = self.words.range(term.to_owned()..);
        for (word, found) in words.take_while(|(word, _)| word.starts_with(term)) {
            let factor = if word == term { 2 } else { 1 };
            for packed in found {
                let at = usize::try_from(packed >> 4).unwrap_or(usize::MAX);
                if let Some(score) = scores.get_mut(at) {
                    *score = (*score).max((packed & 15) * factor);
                }
            }
        }
        scores
    }
}

/// Orders found modules: the highest score first, then by address. Returns one page of them.
pub fn page(mut found: Vec<(u32, &FoundModule)>, offset: usize, limit: usize) -> Vec<&FoundModule> {
    let order = |(a, one): &(u32, &FoundModule), (b, other): &(u32, &FoundModule)| {
        b.cmp(a).then_with(|| one.address.cmp(&other.address))
    };
    // A page needs no order of the thousands after it.
    let end = offset.saturating_add(limit);
    if end < found.len() {
        found.select_nth_unstable_by(end, order);
        found.truncate(end);
    }
    found.sort_unstable_by(order);
    found.into_iter().skip(offset).take(limit).map(|(_, module)| module).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, text: SearchText) -> SearchEntry {
        let version = Version::parse("1.0.0").unwrap();
        SearchEntry { address: address.parse().unwrap(), version, published_at: 0, text }
    }

    fn index() -> SearchIndex {
        let readme =
            "# Networks\nA bastion host, and peering with **transit** gateways. Subnet-groups.";
        SearchIndex::new(vec![
            entry("acme/vpc/aws", SearchText::new(None, ["cidr_block", "az_count"], readme)),
            entry("acme/network/google", SearchText::new(Some("A VPC of Google"), ["cidr"], "")),
            entry("acme/dns/aws", SearchText::new(Some("Zones"), ["vpc_id"], "uses a vpc")),
            entry("acme/x-vpcs/aws", SearchText::default()),
        ])
    }

    fn found(query: &str, system: Option<&str>) -> Vec<String> {
        let system = system.map(|text| System::parse(text).unwrap());
        let index = index();
        let found = index.find(&SearchQuery::parse(query, system).unwrap());
        page(found, 0, 10).iter().map(|entry| entry.address.name.to_string()).collect()
    }

    #[test]
    fn a_query_that_is_too_long_is_refused() {
        for text in ["x".repeat(257), "a ".repeat(9)] {
            assert_eq!(SearchQuery::parse(&text, None), Err(QueryTooLong));
        }
        assert!(SearchQuery::parse(&"a ".repeat(8), None).is_ok());
    }

    #[test]
    fn every_word_of_a_query_begins_a_word_of_the_module_and_the_name_counts_most() {
        for (query, system, expected) in [
            ("bastion", None, &["vpc"][..]),
            ("BASTION aws", None, &["vpc"]),
            ("bast peer", None, &["vpc"]),
            ("bastion google", None, &[]),
            ("astion", None, &[]),
            ("subnet groups", None, &["vpc"]),
            ("vpc", None, &["vpc", "network", "x-vpcs", "dns"]),
            ("vpc", Some("google"), &["network"]),
            ("vpc", Some("azurerm"), &[]),
            ("cidr", None, &["network", "vpc"]),
            ("cidr-block", None, &["vpc"]),
            ("zones", None, &["dns"]),
            ("!!", None, &["dns", "network", "vpc", "x-vpcs"]),
            ("", Some("aws"), &["dns", "vpc", "x-vpcs"]),
        ] {
            assert_eq!(found(query, system), expected, "{query} {system:?}");
        }
    }

    #[test]
    fn a_page_continues_where_the_one_before_ended() {
        let index = index();
        let all = index.find(&SearchQuery::parse("", None).unwrap());
        let names = |offset, limit| {
            page(all.clone(), offset, limit)
                .iter()
                .map(|entry| entry.address.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(0, 3), ["dns", "network", "vpc"]);
        assert_eq!(names(3, 3), ["x-vpcs"]);
        assert!(names(4, 3).is_empty());
        assert_eq!(names(1, 2), ["network", "vpc"]);
        assert_eq!(names(0, usize::MAX).len(), 4);
        assert!(names(usize::MAX, 3).is_empty());
    }
}
