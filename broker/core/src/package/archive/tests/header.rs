//! Tests of the forms that a header of a tar archive may have.

use proptest::prelude::*;

use super::super::{ArchiveLimits, Format};
use super::pack::{gzip, inspected, padded, pax, tar_entry, tar_of};
use super::rejection_of;

const PROBLEM: &str = "is neither plain POSIX, GNU nor v7";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Posix,
    Gnu,
    V7,
}

const FORMS: [Form; 3] = [Form::Posix, Form::Gnu, Form::V7];

fn header(form: Form) -> Vec<u8> {
    let mut header = match form {
        Form::Posix => tar::Header::new_ustar(),
        Form::Gnu => tar::Header::new_gnu(),
        Form::V7 => tar::Header::new_old(),
    };
    header.set_path("main.tf").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(1);
    header.as_bytes().to_vec()
}

/// Corrects the checksum, and packs the header as the only entry of an archive.
fn packed(mut header: Vec<u8>) -> Vec<u8> {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    gzip(&[header, padded(b"x"), vec![0; 1_024]].concat())
}

fn with(form: Form, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = header(form);
    header[at..at + bytes.len()].copy_from_slice(bytes);
    packed(header)
}

fn is_accepted(bytes: &[u8]) -> bool {
    inspected(bytes, Format::TarGz, &ArchiveLimits::default()).is_ok()
}

#[test]
fn a_header_in_another_form_is_rejected_with_one_sentence() {
    use Form::{Gnu, Posix, V7};
    for (what, form, at, bytes) in [
        ("the version of POSIX is missing", Posix, 263, &b"\0\0"[..]),
        ("the version of POSIX is another", Posix, 263, b"01"),
        ("the version of POSIX is GNU's", Posix, 263, b" \0"),
        ("the magic value of POSIX has no end", Posix, 262, b" "),
        ("the magic value is in capitals", Posix, 257, b"USTAR"),
        ("a POSIX header in the star format", Posix, 508, b"tar\0"),
        ("a POSIX header with data in its padding", Posix, 500, b"x"),
        ("the version of GNU is POSIX's", Gnu, 263, b"00"),
        ("a GNU header with a prefix", Gnu, 345, b"folder"),
        ("a GNU header with times, which Python reads as a folder", Gnu, 345, b"15302642254\0"),
        ("a GNU header with an offset", Gnu, 369, b"00000000001\0"),
        ("a GNU header with a sparse map", Gnu, 386, b"00000000001\0"),
        ("a GNU header that continues", Gnu, 482, b"\x01"),
        ("a GNU header with a real size", Gnu, 483, b"00000000001\0"),
        ("a GNU header with data in its padding", Gnu, 511, b"x"),
        ("a v7 header with a prefix", V7, 345, b"folder"),
        ("a v7 header with an owner", V7, 265, b"root"),
        ("a v7 header with data at its end", V7, 511, b"x"),
        ("a size with a sign", Gnu, 124, b"+0000000001\0"),
        ("a size with an underscore", Posix, 124, b"0000000_001\0"),
        ("a size with a mark of its base", Posix, 124, b"0o000000001\0"),
        ("a size with a digit after its end", Posix, 124, b"00000001\x00001"),
        ("a size with a zero byte before it", V7, 124, b"\x0000000000001"),
        ("a binary size", Gnu, 124, b"\x80\0\0\0\0\0\0\0\0\0\0\x01"),
        ("no size", Posix, 124, b"\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("no mode", Posix, 100, b"\0\0\0\0\0\0\0\0"),
        ("a mode with a sign", Gnu, 100, b"+000644\0"),
        ("an owner that is no number", Posix, 108, b"root\0\0\0\0"),
    ] {
        let bytes = with(form, at, bytes);
        let message = rejection_of(inspected(&bytes, Format::TarGz, &ArchiveLimits::default()));
        assert!(
            message.starts_with("the archive's entry `main.tf`") && message.contains(PROBLEM),
            "{what}: {message}"
        );
    }
}

#[test]
fn headers_in_the_known_forms_are_accepted() {
    for form in FORMS {
        assert!(is_accepted(&packed(header(form))), "{form:?}");
        for (at, bytes) in [
            (124, &b"          1 "[..]),
            (124, b"1 \0\0\0\0\0\0\0\0\0\0"),
            (124, b"000000000001"),
            (108, b"\0\0\0\0\0\0\0\0"),
            (108, b"\x80\0\0\0\x7f\xff\xff\xff"),
            (136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            (100, b"100644 \0"),
        ] {
            assert!(is_accepted(&with(form, at, bytes)), "{form:?} {at} {bytes:?}");
        }
    }
    assert!(is_accepted(&with(Form::Posix, 345, b"modules/a")), "a prefix of POSIX");
    let device = b"0000000\x000000000\0";
    assert!(is_accepted(&with(Form::V7, 329, device)), "GNU tar writes this");
    assert!(!is_accepted(&with(Form::V7, 329, b"0000001")));
    assert!(is_accepted(&with(Form::Posix, 329, b"0000000\x000000000\0")));
    assert!(is_accepted(&with(Form::Gnu, 265, b"root")));
}

#[test]
fn two_kinds_of_headers_before_one_entry_are_rejected() {
    let long = |name: &str| {
        let mut entry = tar_entry("././@LongLink", name.as_bytes()).kind(b'L').mode(0);
        entry.data.push(0);
        entry
    };
    let path = |name| pax(b'x', &[("path", name)]);
    let comment = pax(b'g', &[("comment", "8c8b2e8")]);
    let entry = tar_entry("main.tf", b"x");
    for (entries, word) in [
        (vec![long("a.tf"), path("b.tf"), entry.clone()], PROBLEM),
        (vec![path("b.tf"), long("a.tf"), entry.clone()], PROBLEM),
        (vec![path("b.tf"), tar_entry("a/", b"").kind(0)], PROBLEM),
        (vec![long("a.tf"), comment.clone(), entry.clone()], "global header"),
        (vec![path("a.tf"), comment.clone(), entry.clone()], "global header"),
    ] {
        let bytes = gzip(&tar_of(&entries));
        let message = rejection_of(inspected(&bytes, Format::TarGz, &ArchiveLimits::default()));
        assert!(message.contains(word), "{message}");
    }
    for entries in [vec![long("a.tf"), entry.clone()], vec![comment, path("a.tf"), entry]] {
        assert!(is_accepted(&gzip(&tar_of(&entries))));
    }
}

#[test]
fn data_after_the_end_of_a_long_name_or_an_extended_header_is_rejected() {
    let long = tar_entry("././@LongLink", b"long-name.tf\0").kind(b'L').mode(0);
    let path = pax(b'x', &[("path", "a.tf"), ("path", "b.tf")]);
    let comment = pax(b'g', &[("comment", "a"), ("comment", "b")]);
    for (entry, size) in [(long, 4), (path, 13), (comment, 13)] {
        let bytes = gzip(&tar_of(&[entry.size(size), tar_entry("main.tf", b"x")]));
        let message = rejection_of(inspected(&bytes, Format::TarGz, &ArchiveLimits::default()));
        assert!(message.contains("after the end of a long name"), "{message}");
    }
}

/// Fields after the magic value that have a value of any program's choice: the names of owner and group,
/// and in POSIX the prefix.
fn is_free(form: Form, at: usize) -> bool {
    match form {
        Form::Posix => (265..329).contains(&at) || (345..500).contains(&at),
        Form::Gnu => (265..329).contains(&at),
        Form::V7 => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn a_changed_byte_after_the_magic_value_is_rejected_outside_of_free_fields(
        form in prop::sample::select(&FORMS[..]),
        at in 257..512_usize,
        byte in 1..=255_u8,
    ) {
        let is_number = (329..345).contains(&at) && matches!(byte, b'0'..=b'7' | b' ' | 0x80 | 0xff);
        let same = header(form)[at] == byte;
        let accepted = is_accepted(&with(form, at, &[byte]));
        let may = same || is_free(form, at) || form != Form::V7 && is_number;
        prop_assert!(may || !accepted, "{form:?} {at} {byte}");
        prop_assert!(accepted || !same);
    }

    #[test]
    fn an_accepted_size_is_plain_octal(
        form in prop::sample::select(&FORMS[..]),
        field in "[ 0]{0,10}[-+_ox01 ]{0,4}1[ \0]{0,4}",
    ) {
        let mut size = field.into_bytes();
        size.resize(12, 0);
        let text = size.iter().map(|byte| char::from(*byte)).collect::<String>();
        let number = text.trim_start_matches(' ').trim_end_matches(['\0', ' ']);
        let plain = !number.is_empty() && number.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        prop_assert!(plain || !is_accepted(&with(form, 124, &size)), "{text:?}");
    }
}
