//! Whatever fails in whatever order: the position is never ahead of delivery,
//! and once the trouble is over the workspace holds everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;

use crate::world::{FOREIGN, TARGETS, World, key, minutes};

/// The `SplitMix64` generator: the same trouble for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len().try_into().unwrap())).unwrap()].clone()
    }

    fn of_defender(&mut self) -> Fault {
        let status = self.one(&[401, 403, 408, 500, 502, 503]);
        let cut = usize::try_from(self.below(60_000)).unwrap();
        let garbage = Fault::Answer { status: 200, headers: vec![], body: "<html>".to_owned() };
        self.one(&[
            Fault::Pass,
            Fault::status(status),
            Fault::LoseAnswer,
            Fault::CutAfter(cut),
            Fault::throttled(90),
            garbage,
        ])
    }

    fn of_sink(&mut self) -> Fault {
        let status = self.one(&[401, 403, 404, 429, 500, 503]);
        self.one(&[Fault::Pass, Fault::status(status), Fault::LoseAnswer, Fault::throttled(1)])
    }
}

/// What Defender holds of ours, and everything it ever held.
#[derive(Default)]
struct Truth {
    current: BTreeMap<u64, Sample>,
    ever: BTreeSet<String>,
}

impl Truth {
    fn put(&mut self, world: &World, sample: Sample) {
        world.clouds.defender.add([sample.clone()]);
        self.ever.insert(key(&sample));
        self.current.insert(sample.number, sample);
    }

    fn change(&mut self, world: &World, chance: &mut Chance, round: u64) {
        let ago = |chance: &mut Chance| Duration::from_secs(61 + chance.below(200));
        for n in 0..chance.below(60) {
            let updated = world.now() - ago(chance);
            self.put(world, sample::alert(round * 100 + n, GROUP, updated));
        }
        for _ in 0..chance.below(4) {
            let Some(old) = self.current.values().nth(usize::try_from(chance.below(40)).unwrap())
            else {
                continue;
            };
            let newer = Sample { updated: world.now() - ago(chance), ..old.clone() };
            self.put(world, newer);
        }
        let seen = world.now() - ago(chance);
        world.clouds.defender.add([sample::alert(900_000 + round, FOREIGN, seen)]);
    }
}

async fn trouble(seed: u64) {
    let mut chance = Chance(seed);
    let target = chance.one(&TARGETS);
    let extra = [("FunctionConfigAlertTargetType", target), ("FunctionConfigPageSize", "50")];
    let world = World::new(&extra).await;
    let mut truth = Truth::default();
    for round in 1..10 {
        world.pass(minutes(5 + chance.below(40)));
        truth.change(&world, &mut chance, round);
        for _ in 0..chance.below(6) {
            world.clouds.defender.script().push([chance.of_defender()]);
            world.clouds.monitor.script.push([chance.of_sink()]);
            world.clouds.hub.script.push([chance.of_sink()]);
        }
        if chance.below(3) == 0 {
            world.clouds.entra.script.push([Fault::status(503), Fault::LoseAnswer]);
        }
        world.run().await;
        if let Some(checkpoint) = world.app().state.checkpoint().await.unwrap() {
            let position = checkpoint.progress.position();
            let held = world.delivered_once();
            for sample in truth.current.values().filter(|sample| !held.contains(&key(sample))) {
                assert!(position <= sample.updated, "seed {seed}: ahead of {}", key(sample));
            }
        }
    }

    for script in [
        world.clouds.defender.script(),
        &world.clouds.monitor.script,
        &world.clouds.hub.script,
        &world.clouds.entra.script,
    ] {
        script.clear();
    }
    for _ in 0..3 {
        world.five_minutes_later().await;
    }
    let held = world.delivered_once();
    for sample in truth.current.values() {
        assert!(held.contains(&key(sample)), "seed {seed}: {} is missing", key(sample));
    }
    assert!(held.is_subset(&truth.ever), "seed {seed}: something that never was");
    for row in world.rows() {
        let group = row.get("RbacGroupName").or_else(|| row.get("rbacGroupName"));
        assert_eq!(group.unwrap(), GROUP, "seed {seed}");
    }
    assert_eq!(world.blobs("quarantine").await, [], "seed {seed}");
    assert_eq!(world.app().state.pending().await.unwrap().len(), 0, "seed {seed}");
    assert_eq!(world.position().await, world.now() - minutes(1), "seed {seed}");
}

#[tokio::test]
async fn whatever_fails_the_position_is_never_ahead_and_nothing_is_lost() {
    for seed in 1..=12 {
        trouble(seed).await;
    }
}
