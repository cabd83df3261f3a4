//! The spelling of names: which name is most similar to another one.

/// Returns the most similar name, and of several the first in order.
pub fn nearest_spelling<'a, T: Clone + 'a>(
    own: &str,
    others: impl Iterator<Item = &'a T>,
    name: impl Fn(&T) -> String,
) -> Option<T> {
    let ranked = others.map(|other| (spelling_distance(own, &name(other)), name(other), other));
    ranked
        .min_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)))
        .map(|(.., other)| other.clone())
}

/// Returns the smallest number of typing errors between two names: a letter that is missing, added
/// or another, or two neighbours in the wrong order (optimal string alignment).
pub(super) fn spelling_distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, candidate) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != candidate);
            let mut least = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *candidate && other[column - 1] == *letter {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_number_of_typing_errors() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "acme", 4),
            ("acme", "acme", 0),
            ("acme", "acmee", 1),
            ("acme", "ame", 1),
            ("acme", "acne", 1),
            ("acme", "amce", 1),
            ("acme", "tools", 5),
            ("deploy", "deplyo", 1),
            ("111122223333", "111122232333", 1),
        ] {
            assert_eq!(spelling_distance(one, other), expected, "{one} {other}");
            assert_eq!(spelling_distance(other, one), expected, "{other} {one}");
        }
    }
}
