//! Checks a route as the API server would, and makes of it what the proxy serves.

use portcullis_crds::bus::{DesiredRoute, DesiredRouteRule, Origin};
use portcullis_crds::waf_route::{BackendProtocol, RouteRule, TIMEOUT_CEILING, TIMEOUT_FLOOR};
use portcullis_crds::{RouteKey, WafRouteSpec};
use portcullis_proxy::Upstream;

/// What the proxy serves of it, or what is wrong with it.
pub(super) fn check(key: RouteKey, spec: WafRouteSpec) -> Result<DesiredRoute, String> {
    let WafRouteSpec { hostnames, rules, ambiguous_paths, overrides } = spec;
    for (field, count) in [("hostnames", hostnames.len()), ("rules", rules.len())] {
        if !(1..=16).contains(&count) {
            return Err(format!("expected 1 to 16 {field}, found {count}"));
        }
    }
    let rules = rules.into_iter().map(rule).collect::<Result<_, _>>()?;
    Ok(DesiredRoute { key, hostnames, rules, ambiguous_paths, overrides })
}

fn rule(rule: RouteRule) -> Result<DesiredRouteRule, String> {
    let RouteRule { matches, backend, timeouts } = rule;
    for path in matches.iter().filter_map(|wanted| wanted.path.as_ref()) {
        path.check()?;
    }
    if backend.service.is_some() {
        return Err(
            "backend.service needs a cluster; set backend.url, for example http://127.0.0.1:3000".to_owned()
        );
    }
    let url = backend
        .url
        .as_deref()
        .ok_or("expected backend.url, for example http://127.0.0.1:3000, found nothing")?;
    let upstream: Upstream = url.parse().map_err(|error| format!("backend.url: {error}"))?;
    let tls = match (upstream.tls(), backend.tls) {
        (Some(_), tls) => Some(tls.unwrap_or_default()),
        (None, None) => None,
        (None, Some(_)) => return Err(format!("backend.tls: expected an https:// URL, found {url}")),
    };
    if tls.is_some() && backend.protocol == BackendProtocol::H2c {
        return Err(
            "backend.protocol: H2C is without TLS; expected an http:// URL, or protocol: HTTP".to_owned()
        );
    }
    let timeout = timeouts.and_then(|timeouts| timeouts.request);
    if let Some(timeout) = timeout
        && !(TIMEOUT_FLOOR..=TIMEOUT_CEILING).contains(&timeout)
    {
        return Err(format!(
            "expected timeouts.request between {TIMEOUT_FLOOR} and {TIMEOUT_CEILING}, found {timeout}"
        ));
    }
    Ok(DesiredRouteRule {
        matches,
        service: None,
        backend: Some(Origin { host: upstream.host().to_owned(), port: upstream.port() }),
        protocol: backend.protocol,
        tls,
        request_timeout_millis: timeout
            .map(|timeout| u64::try_from(timeout.get().as_millis()).unwrap_or(u64::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use portcullis_crds::waf_route::BackendTls;

    use super::super::{Manifest, read};
    use super::*;

    const ROUTE: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: WafRoute
metadata: {name: shop, namespace: shop}
spec:
  hostnames: [shop.example, '*.shop.example']
  rules:
  - matches: [{path: {value: /api}, methods: [GET, POST]}]
    backend: {url: 'http://127.0.0.1:3001', protocol: H2C}
    timeouts: {request: 5s}
  - backend: {url: 'http://127.0.0.1:3000'}
  overrides: [{rule: bad-bot-blocker, mode: Monitor}]
";

    #[test]
    fn a_route_is_read() {
        let Ok([Manifest::Route(route)]) =
            read(ROUTE).as_deref().map(|all| <[_; 1]>::try_from(all.to_vec()).unwrap())
        else {
            panic!("{:?}", read(ROUTE));
        };
        assert_eq!(route.key.to_string(), "shop/shop");
        assert_eq!(route.hostnames.len(), 2);
        assert_eq!(route.rules[0].request_timeout_millis, Some(5_000));
        let backend = Origin { host: "127.0.0.1".to_owned(), port: 3000 };
        assert_eq!(route.rules[1].backend, Some(backend));
        assert_eq!(route.overrides[0].rule, "bad-bot-blocker");
        let protocols: Vec<_> = route.rules.iter().map(|rule| rule.protocol).collect();
        assert_eq!(protocols, [BackendProtocol::H2c, BackendProtocol::Http]);
    }

    #[test]
    fn a_backend_by_tls_is_verified_as_the_route_says() {
        let tls = "url: 'https://127.0.0.1:3001', tls: {serverName: shop.example, caFile: ca.pem}";
        let text = ROUTE.replacen("url: 'http://127.0.0.1:3001', protocol: H2C", tls, 1);
        let text = text.replacen("http://127.0.0.1:3000", "https://127.0.0.1:3000", 1);
        let manifests = read(&text).unwrap();
        let [Manifest::Route(route)] = &manifests[..] else { panic!("{manifests:?}") };
        let first = route.rules[0].tls.as_ref().unwrap();
        assert_eq!(
            (first.server_name.as_deref(), first.ca_file.as_deref()),
            (Some("shop.example"), Some("ca.pem"))
        );
        assert_eq!(route.rules[1].tls, Some(BackendTls::default()));
    }

    #[test]
    fn the_examples_of_the_documentation_are_read() {
        let page = include_str!("../../../../docs/routes.md");
        let mut examples = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let error = read(examples.next().unwrap()).unwrap_err().to_string();
        assert!(error.contains("needs a cluster"), "{error}");
        assert!(matches!(read(examples.next().unwrap()).unwrap()[..], [Manifest::Route(_)]));
        assert!(matches!(read(examples.next().unwrap()).unwrap()[..], [Manifest::Rule(_)]));
    }

    #[test]
    fn a_file_may_hold_rules_and_routes() {
        let rule = "
apiVersion: portcullis.dev/v1alpha1
kind: WasmRule
metadata: {name: a}
spec: {source: {file: a.wasm}}
";
        assert_eq!(read(&format!("{ROUTE}---{rule}")).unwrap().len(), 2);
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_with_the_reason() {
        for (from, to, reason) in [
            (
                "hostnames: [shop.example, '*.shop.example']",
                "hostnames: []",
                "expected 1 to 16 hostnames, found 0",
            ),
            ("shop.example, ", "Shop.example, ", "expected a host name in lower case"),
            ("value: /api", "value: api", "expected a path that starts with /"),
            ("value: /api", "value: /a/../b", "expected a path that starts with /"),
            ("GET, POST", "GET, BREW", "BREW"),
            ("protocol: H2C", "protocol: HTTP/2", "HTTP/2"),
            (
                "protocol: H2C",
                "tls: {caFile: ca.pem}",
                "expected an https:// URL, found http://127.0.0.1:3001",
            ),
            ("http://127.0.0.1:3001", "https://127.0.0.1:3001", "H2C is without TLS"),
            ("protocol: H2C", "tls: {insecure: true}", "insecure"),
            ("url: 'http://127.0.0.1:3001'", "service: {name: shop, port: 80}", "needs a cluster"),
            ("url: 'http://127.0.0.1:3001'", "url: 'ftp://a'", "expected an upstream such as"),
            ("request: 5s", "request: 5ms", "timeouts.request between 100ms and 1h, found 5ms"),
            ("mode: Monitor", "mode: Off", "Off"),
            ("hostnames:", "hostname:", "hostname"),
            ("timeouts:", "timeout:", "route shop: unknown field spec.rules.0.timeout"),
        ] {
            assert!(ROUTE.contains(from), "{from}");
            let error = read(&ROUTE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
