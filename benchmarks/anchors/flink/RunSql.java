import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** Runs the statements of a file, each ended by a semicolon at a line's end, in this process: RunSql FILE. */
public final class RunSql {
    private static final Pattern SET = Pattern.compile("SET '(.*?)' = '(.*?)'");

    public static void main(String[] arguments) throws Exception {
        String[] statements = Files.readString(Path.of(arguments[0])).split(";\\s*(\n|$)");
        Configuration settings = new Configuration();
        for (String statement : statements) {
            Matcher set = SET.matcher(statement.strip());
            if (set.matches()) settings.setString(set.group(1), set.group(2));
        }
        TableEnvironment tables =
            TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        for (String statement : statements) {
            if (statement.isBlank() || SET.matcher(statement.strip()).matches()) continue;
            var result = tables.executeSql(statement);
            if (statement.strip().startsWith("INSERT")) result.await();
        }
    }
}
