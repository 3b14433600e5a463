//! Who reads the same at once, and what is saved while a page is on its way.

use std::future::Future;

use super::*;

/// Works until Defender has been asked `calls` times; then the work stands
/// still, with the answer on its way.
pub(crate) async fn asked(
    world: &World,
    calls: usize,
    mut work: impl Future<Output = Stopped> + Unpin,
) {
    let enough = async {
        while world.calls() < calls {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = enough => {}
        stopped = &mut work => panic!("{stopped:?}"),
    }
}

#[tokio::test]
async fn a_halt_while_a_page_is_on_its_way_stops_it_after_that_page() {
    let extra = [("FunctionConfigPageSize", "50"), ("FunctionConfigScopeGuard", "halt")];
    let (world, _old) = deployed(&extra).await;
    let from = world.add(5_000..5_400, hours(90))[0].updated;
    start(&world, Span { from, to: from + hours(1) }).await;
    let mut nobody = |_: Seen<'_>| {};
    let exporter = &world.app().exporter;
    let mut work = pin!(exporter.backfill(Uuid::new_v4(), now_or_never(), &mut nobody));
    asked(&world, world.calls() + 2, &mut work).await;
    world.pass(minutes(2));
    let foreign = sample::alert(9_001, FOREIGN, world.now() - Duration::from_secs(90));
    world.clouds.defender.add([foreign]);
    let live = world.another_instance().run(Uuid::new_v4()).await;
    assert!(matches!(&live, Ended::Reported(it, _) if it.status == Status::ScopeViolation));
    let at_halt = world.calls();
    assert_eq!(work.await, Stopped::Later);
    assert!(world.calls() <= at_halt + 1, "{} after {at_halt}", world.calls());
    assert!(world.delivered().len() <= 150, "{} rows", world.delivered().len());
}
