use super::*;
use crate::settings::yaml;

/// A tree of a file `a.yaml`.
fn tree(text: &str) -> Node {
    yaml::parse(text, &|line| Origin::File("a.yaml".into(), line)).unwrap()
}

/// What is wrong with `text` for a reader.
fn problems<T>(text: &str, read_it: impl FnOnce(&mut Section<'_>) -> T) -> String {
    let result = read(tree(text).as_map(), |root| Some(read_it(root)));
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn every_type_is_read_as_it_is_meant() {
    let text = "
duration: 1h 30m
address: '[::1]:80'
integer: 65535
bool: true
choice: second
number: 1.10
zeros: 007
flag: false
strings: [a, 1, true, '']
map: { A: 1, b.c: x, gone: null }
open: { one: { n: 1 }, two: { n: 2 }, none: null }
";
    let read = read(tree(text).as_map(), |root| {
        assert_eq!(root.duration("duration"), Duration::from_secs(90 * 60));
        assert_eq!(root.address("address").to_string(), "[::1]:80");
        assert_eq!(root.integer("integer", 1..=u16::MAX), 65535);
        assert!(root.bool("bool"));
        assert_eq!(root.choice("choice", &[("first", 1), ("second", 2)]), 2);
        assert_eq!(root.string("number"), "1.10");
        assert_eq!(root.string("zeros"), "007");
        assert_eq!(root.string("flag"), "false");
        assert_eq!(root.strings("strings"), ["a", "1", "true", ""]);
        assert_eq!(
            root.string_map("map"),
            [("A", "1"), ("b.c", "x")]
                .map(|(k, v)| (k.into(), v.into()))
                .into()
        );
        let open = root.sections("open", |name, section| {
            (name.to_owned(), section.integer("n", 0..=9))
        });
        assert_eq!(open, [("one".to_owned(), 1), ("two".to_owned(), 2)]);
        assert_eq!(root.optional("absent", Section::string), None);
        Some(())
    });
    assert_eq!(read, Ok(()));
}

#[test]
fn a_wrong_value_says_what_was_expected_and_what_was_found() {
    let said = problems("a: 70000\nb: [1, {}]\nc: { d: [] }\ne: {}\n", |root| {
        root.integer("a", 1..=u16::MAX);
        root.strings("b");
        root.string_map("c");
        root.section("e", |e| e.duration("f"));
    });
    insta::assert_snapshot!(said, @r"
    a.yaml:1: a: expected a whole number from 1 to 65535; found the number 70000
    a.yaml:2: b[1]: expected a string; found a section with keys of its own
    a.yaml:3: c.d: expected a string; found a list
    a.yaml:4: e.f: is missing; expected a duration with its unit, such as 25s or 10m, of a year at most
    ");
}

#[test]
fn a_key_that_nobody_reads_is_told_with_the_one_that_was_meant() {
    let said = problems(
        "spawn:\n  hodl: 1s\nHold: 1s\nspawn2: {}\nzzz: 1\n",
        |root| {
            root.section("spawn", |spawn| spawn.optional("hold", Section::duration));
        },
    );
    insta::assert_snapshot!(said, @r"
    a.yaml:2: spawn.hodl: unknown key; did you mean spawn.hold?
    a.yaml:3: Hold: unknown key; did you mean spawn.hold?
    a.yaml:4: spawn2: unknown key; did you mean spawn?
    a.yaml:5: zzz: unknown key; known here: spawn
    ");
}

#[test]
fn a_section_that_two_readers_share_knows_the_keys_of_both() {
    let read = read(tree("a: { b: 1, c: 2 }").as_map(), |root| {
        let b = root.section("a", |a| a.string("b"))?;
        Some(b + &root.section("a", |a| a.string("c"))?)
    });
    assert_eq!(read, Ok("12".to_owned()));
}

#[test]
fn a_check_is_told_where_the_value_was_said_and_only_if_all_values_were_read() {
    let mut tree = yaml::parse("a: 1\nb: { c: 2 }", &|_| Origin::Default).unwrap();
    tree.merge(self::tree("\nb:\n  c: 3\nd: x\n"));
    let said = read(tree.as_map(), |root| {
        root.string("a");
        root.section("b", |b| b.string("c"));
        root.integer("d", 0..=1);
        root.check(&["a", "b.c"], false, || "too much".to_owned());
        root.check(&["a", "d"], false, || "never told".to_owned());
        root.check(&["a"], true, || "never told".to_owned());
        Some(())
    });
    insta::assert_snapshot!(said.unwrap_err(), @r#"
    a.yaml:3: b.c: too much
    a.yaml:4: d: expected a whole number from 0 to 1; found "x"
    "#);
}

#[test]
fn later_sources_win_key_by_key_and_lists_as_a_whole() {
    let mut merged = tree("a: { b: 1, c: 2 }\nl: [1, 2]\ns: { x: 1 }\n");
    merged.merge(tree("a: { c: 3, d: 4 }\nl: [5]\ns: null\nn: { y: 1 }\n"));
    let read = read(merged.as_map(), |root| {
        assert_eq!(
            root.section("a", |a| ["b", "c", "d"].map(|key| a.string(key)))
                .unwrap(),
            ["1", "3", "4"]
        );
        assert_eq!(root.strings("l"), ["5"]);
        // A section that was set to nothing keeps what is below it, but is left out of an open mapping.
        assert_eq!(root.section("s", |s| s.string("x")).unwrap(), "1");
        root.section("n", |n| n.string("y"))
    });
    assert_eq!(read, Ok("1".to_owned()));

    let mut open = tree("open: { one: { x: 1 }, two: { x: 2 } }");
    open.merge(tree("open: { one: null, two: null }"));
    open.merge(tree("open: { two: { x: 3 } }"));
    let read = super::read(open.as_map(), |root| {
        Some(root.sections("open", |_, section| section.string("x")))
    });
    assert_eq!(read, Ok(vec!["3".to_owned()]));
}
