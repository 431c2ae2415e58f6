//! The components of otelcol-contrib, so that what is missing here is told apart from a typo.
//!
//! In: a component's type. Out: whether otelcol-contrib has it, or had it.
//! Invariant: the lists are those of 0.144.0 and of what later versions removed; they say
//! nothing about what this collector has.

/// Whether otelcol-contrib has a component of this type in a family such as `receivers`.
pub fn has(family: &str, kind: &str) -> bool {
    names(family).any(|name| name == kind)
}

/// The types of a family.
pub fn names(family: &str) -> impl Iterator<Item = &'static str> {
    let names = match family {
        "receivers" => RECEIVERS,
        "processors" => PROCESSORS,
        "exporters" => EXPORTERS,
        "connectors" => CONNECTORS,
        "extensions" => EXTENSIONS,
        _ => "",
    };
    names.split_whitespace()
}

const RECEIVERS: &str = "
    active_directory_ds aerospike apache apachespark awscloudwatch awscontainerinsightreceiver
    awsecscontainermetrics awsfirehose awslambda awss3 awsxray azureblob azureeventhub
    azure_event_hub azuremonitor azure_monitor bigip carbon chrony ciscoos cloudflare cloudfoundry
    collectd couchdb datadog docker_stats elasticsearch envoyals expvar faro filelog file_log
    filestats flinkmetrics fluentforward fluent_forward git github gitlab googlecloudmonitoring
    googlecloudpubsub googlecloudpubsubpush googlecloudspanner haproxy hostmetrics host_metrics
    httpcheck http_check huaweicloudcesreceiver icmpcheckreceiver iis influxdb jaeger jmx journald
    k8s_cluster k8s_events k8sobjects k8slog kafka kafkametrics kubeletstats libhoney loki
    memcached mongodb mongodbatlas mysql namedpipe netflow nginx nop nsxt ntp opencensus oracledb
    osquery otelarrow otlp otlpjsonfile podman_stats postgresql pprof prometheus
    prometheusremotewrite pulsar purefa purefb rabbitmq receiver_creator redfish redis riak sapm
    saphana signalfx simpleprometheus skywalking snmp snowflake solace splunk_hec
    splunkenterprise sqlquery sqlserver sshcheck statsd stef syslog systemd tcpcheck tcplog
    tlscheck udplog vcenter vcr vercel wavefront webhookevent windowseventlog
    windowsperfcounters windowsservice yanggrpc zipkin zookeeper";

const PROCESSORS: &str = "
    attributes batch coralogix cumulativetodelta datadog datadogsemantics deltatocumulative
    deltatorate dnslookup experimental_metricsgeneration filter geoip groupbyattrs groupbytrace
    interval isolationforest k8sattributes k8s_attributes logdedup log_dedup logstransform lookup
    memory_limiter metricsgeneration metricstarttime metricstransform probabilistic_sampler
    redaction remotetap resource resourcedetection routing schema span spanpruning sumologic
    tail_sampling transform unroll";

const EXPORTERS: &str = "
    alibabacloud_logservice alertmanager awscloudwatchlogs awsemf awskinesis awss3 awsxray
    azure_blob azureblob azuredataexplorer azuremonitor bmchelix carbon cassandra clickhouse
    coralogix datadog dataset debug doris dynatrace elasticsearch f5cloud faro file googlecloud
    googlecloudoperations googlecloudpubsub googlecloudstorage google_cloud_storage
    googlemanagedprometheus honeycombmarker influxdb instana jaeger jaeger_thrift kafka kinetica
    loadbalancing logging logicmonitor logzio loki mezmo nop opencensus opensearch otelarrow otlp
    otlp_grpc otlphttp otlp_http parquet prometheus prometheusremotewrite pulsar rabbitmq sapm
    sentry signalfx skywalking splunk_hec stef sumologic syslog tanzuobservability
    tencentcloud_logservice tinybird zipkin";

const CONNECTORS: &str = "
    count datadog exceptions failover forward grafanacloud metricsaslogs otlpjson roundrobin
    routing servicegraph signaltometrics slowsql spanmetrics sum";

const EXTENSIONS: &str = "
    ack asapclient avro_log_encoding aws_logs_encoding awscloudwatchmetricstreams_encoding awsproxy
    azure_auth azure_encoding azureauth ballast basicauth bearertokenauth cgroupruntime
    cfgarden_observer datadog db_storage docker_observer ecs_observer ecs_task_observer file_storage
    google_cloud_logentry_encoding googleclientauth headers_setter health_check healthcheckv2
    host_observer http_forwarder jaeger_encoding jaegerremotesampling json_log_encoding
    k8s_leader_elector k8s_observer kafkatopics_observer memory_ballast memory_limiter oauth2client
    oidc opamp otlp_encoding pebble pprof redis_storage remotetap sigv4auth skywalking_encoding
    solarwindsapmsettings sumologic text_encoding zipkin_encoding zpages";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component;

    #[test]
    fn knows_what_this_collector_has_and_what_it_has_not() {
        for kind in component::RECEIVERS {
            assert!(has("receivers", kind.name), "{}", kind.name);
        }
        for kind in component::PROCESSORS {
            assert!(has("processors", kind.name), "{}", kind.name);
        }
        for kind in component::EXPORTERS {
            assert!(has("exporters", kind.name), "{}", kind.name);
        }
        for kind in component::CONNECTORS {
            assert!(has("connectors", kind.name), "{}", kind.name);
        }
        for kind in component::EXTENSIONS {
            assert!(has("extensions", kind.name), "{}", kind.name);
        }
        assert!(has("exporters", "awsxray") && !has("receivers", "awsemf"));
        assert!(!has("exporters", "kafak") && !has("nothing", "otlp"));
    }
}
