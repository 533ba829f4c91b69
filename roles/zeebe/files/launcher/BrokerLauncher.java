package cpqoms.zeebe;

import io.camunda.zeebe.broker.Broker;
import io.camunda.zeebe.broker.SpringBrokerBridge;
import io.camunda.zeebe.broker.system.SystemContext;
import io.camunda.zeebe.broker.system.configuration.BrokerCfg;
import io.camunda.zeebe.gateway.protocol.GatewayGrpc;
import io.camunda.zeebe.gateway.protocol.GatewayOuterClass.Partition;
import io.camunda.zeebe.gateway.protocol.GatewayOuterClass.Partition.PartitionBrokerRole;
import io.camunda.zeebe.gateway.protocol.GatewayOuterClass.TopologyRequest;
import io.camunda.zeebe.gateway.protocol.GatewayOuterClass.TopologyResponse;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.prometheus.client.exporter.HTTPServer;
import io.prometheus.client.hotspot.DefaultExports;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.logging.log4j.LogManager;
import org.springframework.boot.context.properties.bind.BindHandler;
import org.springframework.boot.context.properties.bind.Bindable;
import org.springframework.boot.context.properties.bind.Binder;
import org.springframework.boot.context.properties.bind.handler.NoUnboundElementsBindHandler;
import org.springframework.boot.context.properties.source.ConfigurationPropertySources;
import org.springframework.boot.env.YamlPropertySourceLoader;
import org.springframework.core.env.MutablePropertySources;
import org.springframework.core.env.PropertySource;
import org.springframework.core.io.FileSystemResource;

/**
 * Starts the broker with its embedded gateway: the broker's jar has no main class, and the distribution's own is not published as a jar.
 *
 * <p>The configuration file has the distribution's format ({@code zeebe.broker.*} in YAML). A key that the broker does not know stops
 * the start, because a misspelt limit that is silently ignored is found only under load. No environment variable is read.
 *
 * <p>Exit codes: 0 after SIGTERM, 78 for a configuration that cannot be used, 1 when the broker does not start or has no leader for
 * every partition in time.
 */
public final class BrokerLauncher {

  private static final int EXIT_CONFIG = 78;
  private static final Duration TOPOLOGY_POLL = Duration.ofMillis(100);
  private static final Duration TOPOLOGY_TIMEOUT = Duration.ofSeconds(2);
  private static final Pattern ACTORS = Pattern.compile("-zb-(actors|fs-workers)-");

  private BrokerLauncher() {}

  /**
   * @param args the configuration file, the data directory and the seconds that the start may take; or {@code --check-config} and the file
   */
  public static void main(final String[] args) throws Exception {
    if (args.length == 2 && args[0].equals("--check-config")) {
      read(Path.of(args[1]));
      return;
    }
    if (args.length != 3) {
      System.err.println("usage: BrokerLauncher (CONFIG DATA_DIRECTORY START_SECONDS | --check-config CONFIG)");
      System.exit(64);
    }
    final BrokerCfg configuration = read(Path.of(args[0]));
    final Instant deadline = Instant.now().plusSeconds(Long.parseLong(args[2]));

    final Path dataDirectory = Path.of(args[1]);
    final SpringBrokerBridge bridge = new SpringBrokerBridge();
    configuration.init(dataDirectory.toString());
    final SystemContext context = new SystemContext(configuration, dataDirectory.toString(), null);
    serveMetrics(Path.of(args[0]));
    context.getScheduler().start();
    final Broker broker = new Broker(context, bridge);
    final CountDownLatch stopped = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(broker, context, stopped), "stop"));

    try {
      broker.start().join();
    } catch (final CompletionException failure) {
      // The broker leaves threads behind that would keep a process alive which serves nobody.
      System.err.println("<3>the broker does not start: " + failure.getCause());
      System.exit(1);
    }
    if (!awaitLeaders(configuration, deadline)) {
      System.err.println("<3>no leader for every partition after " + args[2] + " s");
      System.exit(1);
    }
    notifyReady();
    stopped.await();
  }

  /** The broker collects metrics and serves none: the distribution does so, on {@code server.address} and {@code server.port}. */
  private static void serveMetrics(final Path file) throws IOException {
    final Map<String, String> server =
        binder(file).bind("server", Bindable.mapOf(String.class, String.class)).orElse(Map.of());
    DefaultExports.initialize();
    new HTTPServer.Builder()
        .withHostname(server.getOrDefault("address", "127.0.0.1"))
        .withPort(Integer.parseInt(server.getOrDefault("port", "9600")))
        .withDaemonThreads(true)
        .build();
  }

  /**
   * Waits until the gateway itself names a leader for every partition. The broker's own health flag would do, but it is refreshed only
   * once a minute.
   */
  private static boolean awaitLeaders(final BrokerCfg configuration, final Instant deadline) throws InterruptedException {
    final InetSocketAddress address = configuration.getGateway().getNetwork().toSocketAddress();
    final ManagedChannel gateway = NettyChannelBuilder.forAddress(address).usePlaintext().build();
    try {
      while (Instant.now().isBefore(deadline)) {
        if (hasLeaders(gateway)) {
          return true;
        }
        TimeUnit.MILLISECONDS.sleep(TOPOLOGY_POLL.toMillis());
      }
      return false;
    } finally {
      gateway.shutdownNow();
    }
  }

  private static boolean hasLeaders(final ManagedChannel gateway) {
    try {
      final TopologyResponse topology =
          GatewayGrpc.newBlockingStub(gateway)
              .withDeadlineAfter(TOPOLOGY_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS)
              .topology(TopologyRequest.getDefaultInstance());
      final long led =
          topology.getBrokersList().stream()
              .flatMap(broker -> broker.getPartitionsList().stream())
              .filter(partition -> partition.getRole() == PartitionBrokerRole.LEADER)
              .map(Partition::getPartitionId)
              .distinct()
              .count();
      return led > 0 && led == topology.getPartitionsCount();
    } catch (final StatusRuntimeException notYet) {
      return false;
    }
  }

  private static BrokerCfg read(final Path file) {
    try {
      final BrokerCfg configuration = new BrokerCfg();
      binder(file)
          .bind(
              "zeebe.broker",
              Bindable.ofInstance(configuration),
              new NoUnboundElementsBindHandler(BindHandler.DEFAULT));
      return configuration;
    } catch (final IOException | RuntimeException refused) {
      Throwable cause = refused;
      while (cause.getCause() != null) {
        cause = cause.getCause();
      }
      System.err.println("<3>" + file + ": " + refused.getMessage() + ": " + cause.getMessage());
      System.exit(EXIT_CONFIG);
      throw new AssertionError("unreachable");
    }
  }

  private static Binder binder(final Path file) throws IOException {
    final MutablePropertySources sources = new MutablePropertySources();
    for (final PropertySource<?> source :
        new YamlPropertySourceLoader().load("configuration", new FileSystemResource(file))) {
      sources.addLast(source);
    }
    return new Binder(ConfigurationPropertySources.from(sources));
  }

  /** Java has no datagram unix sockets, so the service manager's own tool sends the message (NotifyAccess=all). */
  private static void notifyReady() throws IOException, InterruptedException {
    if (System.getenv("NOTIFY_SOCKET") == null) {
      return;
    }
    final Process notify =
        new ProcessBuilder(List.of("systemd-notify", "--ready", "--status=The gateway names a leader for every partition")).inheritIO().start();
    if (notify.waitFor() != 0) {
      throw new IOException("systemd-notify failed with " + notify.exitValue());
    }
  }

  /**
   * An actor that asks for the end of the process, as the engine does when memory is exhausted, waits in the exit for this stop, which would
   * wait for the actor: the process would stay, lead its partitions, and answer nobody. It is ended at once, and started anew.
   */
  private static boolean isAskedByActor() {
    return Thread.getAllStackTraces().entrySet().stream()
        .filter(thread -> ACTORS.matcher(thread.getKey().getName()).find())
        .flatMap(thread -> Arrays.stream(thread.getValue()))
        .anyMatch(frame -> frame.getClassName().equals("java.lang.Runtime") && frame.getMethodName().equals("exit"));
  }

  private static void stop(final Broker broker, final SystemContext context, final CountDownLatch stopped) {
    if (isAskedByActor()) {
      System.err.println("<2>the engine gave itself up; what it was doing is in its log on disk");
      Runtime.getRuntime().halt(1);
    }
    try {
      broker.close();
      context.getScheduler().stop().get(10, TimeUnit.SECONDS);
    } catch (final Exception failure) {
      System.err.println("<4>the broker did not stop cleanly: " + failure);
    } finally {
      stopped.countDown();
      // The hook of the logging library is off in its configuration, so that the broker's own stop is logged.
      LogManager.shutdown();
    }
  }
}
