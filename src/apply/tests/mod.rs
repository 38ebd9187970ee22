// SPDX-License-Identifier: ISC
//! Property tests: what is applied is what is found afterwards, whatever the trees.

mod world;

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::plan::{Change, Plan};
use crate::tree::Tree;
use crate::tree::diff::diff;
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
    let stage = Stage::create(&place.work, Owners::Set).unwrap();
    let plan = diff(&Tree::default(), &world.tree);
    let slots = stage_bodies(&stage, &plan, world);
    let mut bodies = |change: &Change| Ok(slots[&change.path]);
    commit_new(&place.root, &stage, &plan, &mut bodies, &Watch::default()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_new_root_is_what_was_wanted(world in worlds()) {
        let place = Place::new();
        make(&place, &world);
        prop_assert_eq!(text(&scan(&place.root)), text(&world.tree));
    }
}
