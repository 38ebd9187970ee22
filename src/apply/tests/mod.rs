// SPDX-License-Identifier: ISC
//! Property tests: what is applied is what is found afterwards, whatever the trees.

pub(super) mod world;

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::plan::{Change, Plan};
use crate::tree::diff::diff;
use crate::tree::{Kind, Node, Time, Tree};
use crate::watch::Watch;
use world::{Place, World, scan, text, worlds};

/// Stages the bodies that `plan` needs.
fn stage_bodies(stage: &Stage, plan: &Plan, world: &World) -> HashMap<TreePath, Slot> {
    let watch = Watch::default();
    let staged = plan.changes.iter().filter(|c| c.needs_body()).map(|change| {
        let node = change.after.as_ref().unwrap();
        let body = &world.bodies[&node.digest().unwrap()];
        let mut reader = &body[..];
        let body = if body.len() > 50_000 { Body::Sparse(&mut reader) } else { Body::Bytes(body) };
        (change.path.clone(), stage.file(node, body, &watch).unwrap().slot)
    });
    staged.collect()
}

/// Makes the tree in the empty root of `place`.
fn make(place: &Place, world: &World) {
    let stage = Stage::create(place.work(), Owners::Set).unwrap();
    let plan = diff(&Tree::default(), &world.tree);
    let slots = stage_bodies(&stage, &plan, world);
    let mut bodies = |change: &Change| Ok(slots[&change.path]);
    commit_new(place.root(), &stage, &plan, &mut bodies, &Watch::default()).unwrap();
    discard(&place.target).unwrap();
}

/// Prepares what turns the root of `place` into `world`.
fn ready(place: &Place, world: &World) -> Result<Prepared> {
    let plan = diff(&scan(place.root()), &world.tree);
    let stage = Stage::create(place.work(), Owners::Set)?;
    let slots = stage_bodies(&stage, &plan, world);
    prepare(&place.target, &[&stage], plan, &mut |change| Ok(slots[&change.path]), &Watch::default())
}

/// Turns the root of `place` into `world`.
fn turn(place: &Place, world: &World) -> Result<()> {
    commit(&place.target, &place.state, &ready(place, world)?, &|| Ok(()), &Watch::default())
}

fn is_clean(place: &Place) -> bool {
    place.work().entries().unwrap().is_empty() && place.state.entries().unwrap().is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_new_root_is_what_was_wanted(world in worlds()) {
        let place = Place::new();
        make(&place, &world);
        prop_assert_eq!(text(&scan(place.root())), text(&world.tree));
    }

    #[test]
    fn a_live_root_becomes_what_is_wanted_and_back(before in worlds(), after in worlds()) {
        let place = Place::new();
        make(&place, &before);
        turn(&place, &after).unwrap();
        prop_assert_eq!(text(&scan(place.root())), text(&after.tree));
        turn(&place, &before).unwrap();
        prop_assert_eq!(text(&scan(place.root())), text(&before.tree));
        prop_assert!(is_clean(&place));
    }

    /// Somebody writes to one of the files in the last moment: everything is put back around it.
    #[test]
    fn a_conflict_leaves_all_as_it_was(before in worlds(), after in worlds(), which: prop::sample::Index) {
        let place = Place::new();
        make(&place, &before);
        let prepared = ready(&place, &after).unwrap();
        let files: Vec<&Change> = prepared.plan().changes.iter().filter(|c| goes(c)).collect();
        prop_assume!(!files.is_empty());
        let path = &which.get(&files).path;
        place.root().walk_parent(path).unwrap().set_mtime(path.name(), Time { sec: 5, nsec: 5 }).unwrap();
        let spoilt = text(&scan(place.root()));
        let error = commit(&place.target, &place.state, &prepared, &|| Ok(()), &Watch::default()).unwrap_err();
        prop_assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(path.as_bytes())));
        prop_assert_eq!(text(&scan(place.root())), spoilt);
        prop_assert!(is_clean(&place));
    }
}

/// A daemon holds a file open that is replaced or removed, and writes to it; then the change is taken back.
#[test]
fn what_was_written_to_a_file_set_aside_is_not_lost() {
    let time = Time { sec: 7, nsec: 7 };
    // What is written, and how; is it told of with a digest, and without?
    for (body, keeps_time, told) in [
        (&b"old"[..], true, [false, false]),
        (b"OLD", true, [true, false]),
        (b"OLD", false, [true, true]),
        (b"longer", true, [true, true]),
    ] {
        for (known, told) in [true, false].into_iter().zip(told) {
            let place = Place::new();
            for name in [b"a", b"b"] {
                std::io::Write::write_all(&mut place.root().create_file(name, 0o644).unwrap(), b"old").unwrap();
                place.root().set_mtime(name, time).unwrap();
            }
            let mut held = place.root().open_or_create(b"a", 0).unwrap();
            let mut have = scan(place.root());
            if !known {
                let strip = |node: &mut Node| {
                    if let Kind::File { digest, .. } = &mut node.kind {
                        *digest = None;
                    }
                };
                have.nodes_mut().for_each(strip);
            }
            let want = Tree::new(have.nodes().iter().filter(|n| n.path.is_root()).cloned().collect()).unwrap();
            let stage = Stage::create(place.work(), Owners::Set).unwrap();
            let none = |_: &Change| unreachable!("files only go");
            let prepared =
                prepare(&place.target, &[&stage], diff(&have, &want), &mut { none }, &Watch::default()).unwrap();
            let fails = || Err(Error::new(ErrorKind::Io, "for this test"));
            commit(&place.target, &place.state, &prepared, &fails, &Watch::default()).unwrap_err();
            assert_eq!(place.root().find(b"a").unwrap().map(|s| s.size), None);

            std::io::Write::write_all(&mut held, body).unwrap();
            if keeps_time {
                held.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(7, 7)).unwrap();
            }
            journal::rename(&place.state, journal::FORWARD, journal::BACK).unwrap();
            let found = recover(&place.target, &place.state, &|| Ok(()), &Watch::default()).unwrap();
            let Recovered::TurnedBack(reason) = found else { panic!("{found:?}") };
            let case = format!("{body:?} {keeps_time} {known}");
            let names = reason.map(|e| e.reason().rsplit_once(": ").unwrap().1.to_owned());
            assert_eq!(names.as_deref(), told.then_some("a"), "{case}");
            let mut now = Vec::new();
            std::io::Read::read_to_end(&mut place.root().open_file(b"a").unwrap(), &mut now).unwrap();
            assert_eq!(now, body, "{case}");
            assert!(is_clean(&place));
        }
    }
}

/// A file of one name that is replaced or removed.
fn goes(change: &Change) -> bool {
    let alone = |n: &Node| matches!(n.kind, Kind::File { .. }) && n.group.is_none();
    change.before.as_ref().is_some_and(alone) && (change.replace || change.after.is_none())
}
