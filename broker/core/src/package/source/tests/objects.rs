//! Which texts are addresses of objects, and which objects a list allows.

use serde_json::{Value, json};

use super::super::{
    AllowedEntry, AllowedObjects, AllowedSource, AllowedSources, ObjectAddress, SourceRefusal,
    SourcesChange,
};

const REGION: &str = "eu-central-1";

fn allowed(addresses: &[&str]) -> AllowedSources {
    let parse = |text: &&str| AllowedObjects::parse(text, REGION).unwrap();
    let add_objects = addresses.iter().map(parse).collect();
    let change = SourcesChange { add_objects, ..SourcesChange::default() };
    AllowedSources::default().changed(&change).unwrap()
}

fn object(text: &str) -> ObjectAddress {
    ObjectAddress::parse(text).unwrap()
}

#[test]
fn a_bucket_has_one_spelling_and_is_no_arn_and_no_access_point() {
    let longest = "b".repeat(63);
    for bucket in [
        "",
        "ab",
        "Bucket",
        "b_cket",
        "bucket.",
        ".bucket",
        "bucket-",
        "-bucket",
        "buc..ket",
        "buc.-ket",
        "buc-.ket",
        "192.168.5.4",
        "bücket",
        "bu%63ket",
        "bucket%2fkey",
        "bucket:80",
        "user@bucket",
        "bucket?versionId=x",
        "bucket#x",
        "buc*et",
        "arn:aws:s3:::bucket",
        "arn:aws:s3:eu-central-1:111122223333:accesspoint",
        "xn--bucket",
        "sthree-bucket",
        "amzn-s3-demo-bucket",
        "bucket-s3alias",
        "bucket--ol-s3",
        "bucket.mrap",
        "bucket--euc1-az1--x-s3",
        "bucket--table-s3",
        &format!("{longest}b"),
    ] {
        ObjectAddress::parse(&format!("s3://{bucket}/vpc.zip")).expect_err(bucket);
        AllowedObjects::parse(&format!("s3://{bucket}/"), REGION).expect_err(bucket);
    }
    for bucket in ["abc", "acme-modules", "acme.modules", "1-2.3-4", "192.168.5.4.x", &longest] {
        let parsed = object(&format!("s3://{bucket}/a/vpc.zip"));
        assert_eq!((parsed.bucket(), parsed.key()), (bucket, "a/vpc.zip"));
        assert_eq!(parsed.as_str(), format!("s3://{bucket}/a/vpc.zip"));
    }
}

#[test]
fn a_key_has_one_spelling_and_is_never_decoded() {
    let longest = "k".repeat(1024);
    for key in [
        "",
        "/",
        "/vpc.zip",
        "vpc.zip/",
        "a//vpc.zip",
        "./vpc.zip",
        "../vpc.zip",
        "a/./vpc.zip",
        "a/../vpc.zip",
        "a/..",
        "a b.zip",
        "a%2fvpc.zip",
        "%61/vpc.zip",
        "a\\vpc.zip",
        "a\tvpc.zip",
        "a\nvpc.zip",
        "a\0vpc.zip",
        "a\u{7f}vpc.zip",
        "vpc\u{301}.zip",
        "vpc.zip?versionId=x",
        "vpc.zip#x",
        "*.zip",
        "${aws:username}/vpc.zip",
        "'vpc'.zip",
        &format!("{longest}k"),
    ] {
        ObjectAddress::parse(&format!("s3://bucket/{key}")).expect_err(key);
    }
    for text in ["", "bucket/vpc.zip", "S3://bucket/vpc.zip", "s3:/bucket/vpc.zip", "s3://bucket"] {
        ObjectAddress::parse(text).expect_err(text);
    }
    for key in ["vpc.zip", "...", "a/.hidden", "a..b/c", "v=1.0.0+b1/vpc@x,y:z~_-.zip", &longest] {
        assert_eq!(object(&format!("s3://bucket/{key}")).key(), key);
    }
}

#[test]
fn an_object_is_allowed_at_a_prefix_and_below_and_nowhere_else() {
    for (address, text, expected) in [
        ("s3://bucket/", "s3://bucket/vpc.zip", true),
        ("s3://bucket/", "s3://bucket/a/b/c.zip", true),
        ("s3://bucket/x", "s3://bucket/x/vpc.zip", true),
        ("s3://bucket/x/", "s3://bucket/x/vpc.zip", true),
        ("s3://bucket/x/vpc.zip", "s3://bucket/x/vpc.zip", true),
        ("s3://bucket/x", "s3://bucket/x", true),
        ("s3://bucket/x", "s3://bucket/x-other/vpc.zip", false),
        ("s3://bucket/x", "s3://bucket/x.zip", false),
        ("s3://bucket/x", "s3://bucket/xvpc.zip", false),
        ("s3://bucket/x", "s3://bucket/X/vpc.zip", false),
        ("s3://bucket/x", "s3://bucket/y/x/vpc.zip", false),
        ("s3://bucket/x", "s3://bucket/vpc.zip", false),
        ("s3://bucket/x/y", "s3://bucket/x/vpc.zip", false),
        ("s3://bucket/", "s3://bucket-x/vpc.zip", false),
        ("s3://bucket/", "s3://bucket.x/vpc.zip", false),
        ("s3://bucket/x", "s3://other/x/vpc.zip", false),
    ] {
        let expected = if expected { Ok(REGION) } else { Err(SourceRefusal::NotAllowed) };
        assert_eq!(allowed(&[address]).permit_object(&object(text)), expected, "{address} {text}");
    }
    let none = AllowedSources::default().permit_object(&object("s3://bucket/vpc.zip"));
    assert_eq!(none, Err(SourceRefusal::NotAllowed));
    let add = vec![AllowedSource::parse("s3::https://bucket.s3.amazonaws.com/", false).unwrap()];
    let change = SourcesChange { add, ..SourcesChange::default() };
    let source = AllowedSources::default().changed(&change).unwrap();
    let of_source = source.permit_object(&object("s3://bucket/vpc.zip"));
    assert_eq!(of_source, Err(SourceRefusal::NotAllowed), "a source allows no object");
}

#[test]
fn allowed_objects_have_one_spelling_and_a_region() {
    for text in [
        "s3://bucket",
        "s3://bucket//",
        "s3://bucket/x//",
        "s3://bucket/../x",
        "s3://bucket/x*",
        "s3://bucket/%78",
        "s3://bucket/x?region=eu-central-1",
        "s3://bucket/ x",
    ] {
        AllowedObjects::parse(text, REGION).expect_err(text);
    }
    for region in ["", "eu-central", "EU-CENTRAL-1", "eu-central-1.evil.example", "mars-north-1"] {
        AllowedObjects::parse("s3://bucket/x", region).expect_err(region);
    }
    for (text, canonical) in [
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("s3://bucket/x/y/", "s3://bucket/x/y"),
    ] {
        let parsed = AllowedObjects::parse(text, REGION).unwrap();
        assert_eq!((parsed.address(), parsed.region()), (canonical, REGION));
    }
}

#[test]
fn stored_objects_are_read_back_and_what_is_not_understood_allows_nothing() {
    let list = |entry: &Value| json!({"version": 1, "sources": [entry]}).to_string();
    let known = json!({"address": "s3://bucket/x", "region": REGION, "note": "x"});
    let read = AllowedSources::read(Some(&list(&known)));
    assert_eq!(read.permit_object(&object("s3://bucket/x/vpc.zip")), Ok(REGION));
    let stored: Value = serde_json::from_str(&read.to_text().unwrap()).unwrap();
    assert_eq!(stored["sources"], json!([known]), "a note restricts nothing, and stays");
    for entry in [
        json!({"address": "s3://bucket/x"}),
        json!({"address": "s3://bucket/x", "region": 7}),
        json!({"address": "s3://bucket/x", "region": "mars-north-1"}),
        json!({"address": "s3://bucket/*", "region": REGION}),
        json!({"address": "s3://bucket/x", "region": REGION, "crit": ["hours"], "hours": "9-17"}),
    ] {
        let read = AllowedSources::read(Some(&list(&entry)));
        let decided = read.permit_object(&object("s3://bucket/x/vpc.zip"));
        assert_eq!(decided, Err(SourceRefusal::NotAllowed), "{entry}");
        assert_eq!(read.entries(), [AllowedEntry::Unknown(entry)]);
    }
}

#[test]
fn an_entry_with_the_same_address_is_replaced_and_the_longest_one_says_the_region() {
    let add = |text: &str, region: &str| {
        let add_objects = vec![AllowedObjects::parse(text, region).unwrap()];
        SourcesChange { add_objects, ..SourcesChange::default() }
    };
    let list = allowed(&["s3://bucket/x", "s3://bucket/x/y"]);
    let list = list.changed(&add("s3://bucket/x/", "us-east-1")).unwrap();
    assert_eq!(list.entries().len(), 2);
    assert_eq!(list.permit_object(&object("s3://bucket/x/vpc.zip")), Ok("us-east-1"));
    assert_eq!(list.permit_object(&object("s3://bucket/x/y/vpc.zip")), Ok(REGION));
}
