package cpqoms.compatibility;

import java.util.concurrent.CountDownLatch;

/**
 * Starts the in-memory engine, which has no main class, and keeps it until SIGTERM; READY on standard output says that it serves.
 *
 * <p>The engine is reached by reflection: its classes need a newer compiler than the one that compiles this.
 */
public final class EngineLauncher {

  private EngineLauncher() {}

  /**
   * @param args the port of the gateway
   */
  public static void main(final String[] args) throws Exception {
    final Object engine =
        Class.forName("io.camunda.zeebe.process.test.engine.EngineFactory")
            .getMethod("create", int.class)
            .invoke(null, Integer.parseInt(args[0]));
    Class.forName("io.camunda.zeebe.process.test.api.ZeebeTestEngine").getMethod("start").invoke(engine);
    System.out.println("READY");
    new CountDownLatch(1).await();
  }
}
