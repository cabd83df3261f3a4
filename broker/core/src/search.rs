//! Finds modules by words: in their name, description, inputs and README.
//!
//! Every word of a query must begin a word of the module. A name counts most, a README least.

use std::collections::{BTreeSet, HashMap};

use stile_protocol::names::{ModuleAddress, System};

use crate::package::{SearchText, Version, split_words, words_of};

/// The most bytes of a query.
const MAX_QUERY: usize = 256;

/// The most different words of a query. Further words would only cost time.
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
    /// [`QueryTooLong`], if it has too many bytes or different words.
    pub fn parse(text: &str, system: Option<System>) -> Result<Self, QueryTooLong> {
        if text.len() > MAX_QUERY {
            return Err(QueryTooLong);
        }
        let terms: BTreeSet<String> = split_words(text).into_iter().collect();
        if terms.len() > MAX_TERMS {
            return Err(QueryTooLong);
        }
        Ok(Self { terms: terms.into_iter().collect(), system })
    }
}

/// How much a word counts at its place in a module.
const WEIGHTS: [u8; 4] = [8, 4, 2, 1];

/// The most words of one module in an index, the most important ones.
const MAX_WORDS: usize = 400;

/// The fewest characters of a term that finds longer words, too. A shorter term begins so many
/// words that it would find nearly every module.
const MIN_PREFIX: usize = 2;

/// The modules of one namespace, by their words.
///
/// All words are in one text, and all numbers in one list, so that a word takes little more memory
/// than its letters.
#[derive(Debug, Default)]
pub struct SearchIndex {
    /// Only what an answer shows of the modules.
    found: Vec<FoundModule>,
    /// The words in their order, one after the other.
    text: String,
    /// For each word, where it and its modules end. They begin where those of the word before end.
    words: Vec<IndexedWord>,
    /// The modules that have each word. The lowest four bits of a number are the weight.
    modules: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct IndexedWord {
    text_end: usize,
    modules_end: usize,
}

impl SearchIndex {
    /// Creates the index of some modules.
    pub fn new(entries: Vec<SearchEntry>) -> Self {
        // A hash map, because there can be a million words.
        let mut words: HashMap<String, Vec<u32>> = HashMap::new();
        let mut index = Self { found: Vec::with_capacity(entries.len()), ..Self::default() };
        for (at, entry) in (0_u32..).zip(entries) {
            for (word, weight) in words_of_module(&entry) {
                words.entry(word).or_default().push(at << 4 | u32::from(weight));
            }
            let SearchEntry { address, version, published_at, text } = entry;
            let description = text.description;
            index.found.push(FoundModule { address, version, published_at, description });
        }
        let mut words: Vec<_> = words.into_iter().collect();
        words.sort_unstable();
        for (word, modules) in words {
            index.text.push_str(&word);
            index.modules.extend(modules);
            let (text_end, modules_end) = (index.text.len(), index.modules.len());
            index.words.push(IndexedWord { text_end, modules_end });
        }
        index.text.shrink_to_fit();
        index.words.shrink_to_fit();
        index.modules.shrink_to_fit();
        index
    }

    /// Returns the number of modules.
    pub const fn len(&self) -> usize {
        self.found.len()
    }

    /// Returns whether there is no module.
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns how much memory the index takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let texts = self.found.iter().map(|module| {
            let address = &module.address;
            let name = address.namespace.as_str().len() + address.name.as_str().len();
            let description = module.description.as_ref().map_or(0, String::len);
            name + address.system.as_str().len() + description
        });
        size_of_val(self.found.as_slice())
            + texts.sum::<usize>()
            + self.text.len()
            + size_of_val(self.words.as_slice())
            + size_of_val(self.modules.as_slice())
    }

    /// Returns the modules that have every word of the query, each with its score.
    ///
    /// It takes milliseconds for thousands of modules, and blocks the thread.
    pub fn find(&self, query: &SearchQuery) -> Vec<(u32, &FoundModule)> {
        let mut terms = query.terms.iter();
        // Without a word, every module counts the same.
        let first = terms.next().map(|term| self.having(term));
        let mut scores = first.unwrap_or_else(|| vec![1; self.found.len()]);
        for term in terms {
            if scores.iter().all(|score| *score == 0) {
                break;
            }
            for (sum, score) in scores.iter_mut().zip(self.having(term)) {
                *sum = if *sum == 0 || score == 0 { 0 } else { *sum + score };
            }
        }
        let is_wanted = |module: &FoundModule| match &query.system {
            None => true,
            Some(system) => module.address.system == *system,
        };
        let found = scores.into_iter().zip(&self.found);
        found.filter(|(score, module)| *score > 0 && is_wanted(module)).collect()
    }

    /// Returns the score of each module: 0 without a word that begins with the term. A whole word
    /// counts twice. A term of one character finds whole words only.
    fn having(&self, term: &str) -> Vec<u32> {
        let is_prefix = term.chars().nth(MIN_PREFIX - 1).is_some();
        let mut scores = vec![0; self.found.len()];
        for at in self.first(term)..self.words.len() {
            let (word, found) = self.word(at);
            if !word.starts_with(term) || (!is_prefix && word != term) {
                break;
            }
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

    /// Returns the number of the first word that is not before the term.
    fn first(&self, term: &str) -> usize {
        let (mut from, mut to) = (0, self.words.len());
        while from < to {
            let middle = from.midpoint(to);
            if self.word(middle).0 < term {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Returns a word and the modules that have it.
    fn word(&self, at: usize) -> (&str, &[u32]) {
        let end = |at: usize| self.words.get(at).copied().unwrap_or_default();
        let (from, to) = (at.checked_sub(1).map(end).unwrap_or_default(), end(at));
        let word = self.text.get(from.text_end..to.text_end).unwrap_or_default();
        let modules = self.modules.get(from.modules_end..to.modules_end).unwrap_or_default();
        (word, modules)
    }
}

/// Returns the words in a stored word. An earlier release stored letters as they were written, which
/// matters only outside of ASCII.
fn stored(word: &str) -> Vec<String> {
    if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        vec![word.to_owned()]
    } else {
        words_of(word)
    }
}

/// Returns the words of a module, each with the weight of its best place.
fn words_of_module(entry: &SearchEntry) -> HashMap<String, u8> {
    let text = &entry.text;
    let name = format!("{} {}", entry.address.name, entry.address.system);
    let description = text.description.as_deref().unwrap_or_default();
    let places = [
        // Also a name of one letter, which nothing else could find.
        split_words(&name),
        words_of(description),
        text.inputs().iter().flat_map(|input| words_of(input)).collect(),
        text.words().iter().flat_map(|word| stored(word)).collect(),
    ];
    let mut best: HashMap<String, u8> = HashMap::new();
    for (place, weight) in places.into_iter().zip(WEIGHTS) {
        for word in place {
            if best.len() < MAX_WORDS {
                best.entry(word).or_insert(weight);
            }
        }
    }
    best
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
        for text in ["x".repeat(257), "a b c d e f g h i".to_owned()] {
            assert_eq!(SearchQuery::parse(&text, None), Err(QueryTooLong));
        }
        let once = SearchQuery::parse(&"S s ".repeat(20), None).unwrap();
        assert_eq!(once.terms, ["s"], "a word that is there twice is searched once");
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
            // One letter finds that word, and not all that begin with it.
            ("v", None, &[]),
            ("x", None, &["x-vpcs"]),
            ("x vp", None, &["x-vpcs"]),
            ("nothing vpc", None, &[]),
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

    #[test]
    fn a_word_is_found_however_its_letters_are_written() {
        let texts = ["\u{130}stanbul caf\u{e9}", "I\u{307}stanbul cafe\u{301}"];
        for text in texts {
            let module = entry("acme/a/aws", SearchText::new(Some(text), [], text));
            // A document of an earlier release has words in the form of their text.
            let older = SearchText::read(&serde_json::json!({ "words": text }));
            for index in [module, entry("acme/b/aws", older)] {
                let index = SearchIndex::new(vec![index]);
                for query in [texts[0], texts[1], "istanbul", "ISTAN caf\u{e9}", "cafe\u{301}"] {
                    let query = SearchQuery::parse(query, None).unwrap();
                    assert_eq!(index.find(&query).len(), 1, "{query:?} {text}");
                }
            }
        }
    }

    #[test]
    fn an_index_of_many_hostile_modules_takes_a_few_kilobytes_for_each() {
        let entries = (0..200_u32).map(|n| {
            let wide = |m: u32| char::from_u32(0x2_0000 + (n * 200 + m) % 40_000).unwrap();
            let readme: String = (0..200).map(|m| format!("{}ab{n}x{m} ", wide(m))).collect();
            let inputs: Vec<String> = (0..200).map(|m| format!("i{n}_{m}_j{m}{n}_k{m}")).collect();
            let inputs = inputs.iter().map(String::as_str);
            entry(&format!("acme/m{n}/aws"), SearchText::new(Some(&readme), inputs, &readme))
        });
        let index = SearchIndex::new(entries.collect());
        let each = index.bytes() / index.len();
        assert!((4 << 10..12 << 10).contains(&each), "{each} bytes");
        let query = SearchQuery::parse("i7", None).unwrap();
        assert_eq!(index.find(&query).len(), 11, "i7 and i70 to i79");
    }
}
