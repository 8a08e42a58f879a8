//! Routes that the bus says.

use std::net::SocketAddr;

use portcullis_bus::testing::NatsServer;
use portcullis_crds::bus::Origin;
use portcullis_test_tools::upstream::upstream;

use crate::agent::Agent;
use crate::leader::{Leader, blocking};

fn origin(address: SocketAddr) -> Option<Origin> {
    Some(Origin { host: address.ip().to_string(), port: address.port() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_served_changed_kept_through_a_restart_without_the_bus_and_taken_back() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let mut agent = Agent::start(&nats).await;
    leader.publish("bad-bot", 1, "of shop", &blocking("1")).await;
    leader.publish_route("web", 1, "shop.example", origin(upstream())).await;
    leader.checkpoint().await;
    leader.is_settled_with_routes().await;
    agent.answers_host("shop.example", 403, "of shop").await;

    // Its Service is gone: no other backend gets what was meant for it.
    leader.delete("bad-bot").await;
    leader.publish_route("web", 2, "shop.example", None).await;
    leader.is_settled_with_routes().await;
    agent.answers_host("shop.example", 500, "backend that the route names does not exist").await;

    leader.checkpoint().await;
    agent.is_ready().await;
    nats.stop();
    agent.kill();
    agent.resume();
    agent.answers_host("shop.example", 500, "does not exist").await;
    nats.resume().await;

    leader.delete_route("web").await;
    leader.is_settled_with_routes().await;
    agent.answers_host("shop.example", 200, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_goes_without_a_tombstone_only_by_a_checkpoint_that_speaks_of_routes() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    let agent = Agent::start(&nats).await;
    leader.publish_route("web", 1, "shop.example", None).await;
    leader.checkpoint().await;
    leader.is_settled_with_routes().await;
    agent.answers_host("shop.example", 500, "does not exist").await;

    // Another stream, on which nothing is yet, and a leader that has not come to its routes.
    nats.stop();
    nats.wipe();
    nats.resume().await;
    leader.routes_are_unknown = true;
    leader.start_over(&[]).await;
    let (stream, last) = (leader.stream.to_string(), leader.last);
    leader.reported("the new stream", |r| r.stream == stream && r.sequence >= last).await;
    agent.answers_host("shop.example", 500, "does not exist").await;
    leader.routes_are_unknown = false;
    leader.routes.clear();
    leader.checkpoint().await;
    leader.is_settled_with_routes().await;
    agent.answers_host("shop.example", 200, "").await;
}
