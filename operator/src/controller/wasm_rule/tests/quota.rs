//! What happens to a rule for which there is no room.

use portcullis_bus::StreamBounds;
use portcullis_crds::ByteSize;

use super::*;
use crate::lease::Validity;
use crate::publisher::Publisher;
use crate::quota::Quota;
use crate::quota::tests::generous;

/// A module of its own for each version, all of the same size.
fn version(n: u8) -> String {
    format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 0) "{n:0>8}")
            (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 1)))"#
    )
}

fn module_size() -> u64 {
    wat::parse_str(version(0)).unwrap().len() as u64
}

impl World {
    fn set_quota(&mut self, quota: Quota) {
        let ctx = Arc::get_mut(&mut self.ctx).expect("nothing is under way");
        ctx.quotas.default = quota;
    }

    /// Pushes and applies this version, and reconciles.
    async fn roll_out(&self, n: u8) -> WasmRule {
        self.push(&n.to_string(), &version(n)).await;
        self.apply(n.into(), &n.to_string(), None);
        self.reconcile().await
    }
}

fn two_modules() -> Quota {
    Quota { module_bytes: ByteSize::bytes(2 * module_size()), ..generous() }
}

const PUBLISHED: &str = "Programmed=True/Published";

#[tokio::test]
async fn a_module_over_the_quota_is_refused_by_name_and_the_last_good_one_stays_enforced() {
    let mut world = World::new().await;
    world.set_quota(two_modules());
    assert_eq!(conditions(&world.roll_out(1).await)[3], PUBLISHED);
    assert_eq!(conditions(&world.roll_out(2).await)[3], PUBLISHED);
    let good = world.on_the_bus().await;

    let refused = world.roll_out(3).await;
    assert_eq!(
        &conditions(&refused)[3..],
        ["Programmed=False/QuotaExceeded", "Ready=Unknown/QuotaExceeded", "Stalled=True/QuotaExceeded"]
    );
    let said = message(&refused, "Programmed");
    assert!(said.contains("shop") && said.contains("operator.quota.moduleBytes"), "{said}");
    assert_eq!(world.on_the_bus().await, good);
    assert_eq!(world.nats.operator().await.modules().await.unwrap().len(), 2);

    world.apply(4, "1", None);
    assert_eq!(conditions(&world.reconcile().await)[3], PUBLISHED, "it may go back to what counts already");
}

#[tokio::test]
async fn modules_that_were_replaced_count_for_their_namespace_after_a_change_of_leader() {
    let mut world = World::new().await;
    world.roll_out(1).await;
    world.roll_out(2).await;
    world.new_leader().await;
    world.set_quota(two_modules());
    world.ctx.publisher.remove_unused_modules(Instant::now()).await.unwrap();
    let refused = world.roll_out(3).await;
    assert_eq!(conditions(&refused)[3], "Programmed=False/QuotaExceeded");
}

#[tokio::test]
async fn room_comes_when_modules_that_no_rule_names_are_removed() {
    let mut world = World::new().await;
    world.set_quota(two_modules());
    for n in 1..=3 {
        world.roll_out(n).await;
    }
    let now = Instant::now();
    for later in [now, now + crate::unused_modules::GRACE] {
        world.ctx.publisher.remove_unused_modules(later).await.unwrap();
    }
    assert_eq!(conditions(&world.roll_out(4).await)[3], PUBLISHED);
}

#[tokio::test]
async fn a_rule_too_many_is_not_accepted_and_no_registry_is_asked_for_it() {
    let mut world = World::new().await;
    world.set_quota(Quota { rules: 0, ..generous() });
    // It is in no registry.
    world.apply(1, "absent", None);
    let refused = world.reconcile().await;
    assert_eq!(
        &conditions(&refused)[..2],
        ["Accepted=False/QuotaExceeded", "Resolved=Unknown/QuotaExceeded"]
    );
    assert!(message(&refused, "Accepted").contains("operator.quota.rules"));
}

#[tokio::test]
async fn a_namespace_that_spent_its_validation_time_waits_for_more() {
    let mut world = World::new().await;
    world.roll_out(1).await;
    let good = world.on_the_bus().await;
    world.set_quota(Quota { validation: Duration::ZERO, ..generous() });
    let refused = world.roll_out(2).await;
    assert_eq!(conditions(&refused)[3], "Programmed=False/QuotaExceeded");
    assert!(message(&refused, "Programmed").contains("operator.quota.validation"));
    assert_eq!(world.on_the_bus().await, good);

    world.apply(3, "1", None);
    assert_eq!(conditions(&world.reconcile().await)[3], PUBLISHED, "what was validated before costs nothing");
}

#[tokio::test]
async fn a_bus_without_room_refuses_one_rule_and_says_so() {
    let mut world = World::new().await;
    let bounds = StreamBounds { modules: module_size() + 1024, ..StreamBounds::default() };
    let publisher =
        Publisher::start(world.nats.operator_options(), bounds, "test", Validity::for_a_test(true));
    publisher.take_over().await.unwrap();
    Arc::get_mut(&mut world.ctx).expect("nothing is under way").publisher = publisher;
    world.roll_out(1).await;
    let good = world.on_the_bus().await;

    let refused = world.roll_out(2).await;
    assert_eq!(conditions(&refused)[3], "Programmed=False/BusFull");
    let said = message(&refused, "Programmed");
    assert!(said.contains("PORTCULLIS_MODULES") && said.contains("nats.storeSize"), "{said}");
    assert_eq!(world.on_the_bus().await, good);
    assert!(world.ctx.publisher.view(|_| ()).is_some(), "the bus is there: nothing has to be read again");
    world.apply(3, "1", None);
    assert_eq!(conditions(&world.reconcile().await)[3], PUBLISHED, "other writes go on");
}

#[tokio::test]
async fn what_a_wiped_stream_lost_is_written_again_although_the_quota_was_lowered_meanwhile() {
    let mut world = World::new().await;
    world.roll_out(1).await;
    let (rule, _) = world.on_the_bus().await;
    world.nats.stop();
    world.nats.wipe();
    world.nats.resume().await;
    world.new_leader().await;
    let nothing = Quota {
        module_bytes: ByteSize::bytes(0),
        rules: 0,
        routes: 0,
        validation: Duration::ZERO,
        registry_requests: 0,
    };
    world.set_quota(nothing);
    assert_eq!(conditions(&world.reconcile().await)[3], PUBLISHED);
    assert_eq!(world.on_the_bus().await.0, rule);
}
