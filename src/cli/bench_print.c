#include <string.h>

#include "base/json.h"
#include "cli/bench.h"

static double share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

static bool has_roofs(const struct bench_report *r) { return r->machine.read > 0; }

/* Percent of the roof that bounds the row. */
static double roof_share(const struct bench_report *r, const struct bench_row *row)
{
    return row->decode ? share(row->bytes * row->median, r->machine.read)
                       : share(row->flops * row->median, r->machine.flops);
}

static double spread(const struct bench_row *row)
{
    return share(row->high - row->low, row->median);
}

static const char *work_name(const struct bench_row *row)
{
    return row->decode ? "decode" : "prompt";
}

/* ---- markdown -------------------------------------------------------------------------------- */

static void print_ops(const struct bench_row *row, struct bytes *out)
{
    double known = 0;
    bytes_addf(out, "\n%s %lld behind %lld: ", work_name(row), (long long)row->tokens,
               (long long)row->depth);
    for (int i = 0; i < row->ops; i++) {
        known += row->op[i].seconds;
        bytes_addf(out, "%s %.1f %%, ", row->op[i].op, share(row->op[i].seconds, row->seconds));
    }
    bytes_addf(out, "the rest %.1f %%\n", share(row->seconds - known, row->seconds));
}

static void print_md(const struct bench_report *r, bool profile, struct bytes *out)
{
    bytes_addf(out, "%s, %s, %s, %d threads, %d rounds\n", r->model, r->compute, r->mode,
               r->threads, r->repeats);
    bytes_addf(out, "%s (%s)", r->processor, r->instructions);
    if (has_roofs(r))
        bytes_addf(out, ": reads %.1f GB/s, multiplies %.2f TFLOP/s", 1e-9 * r->machine.read,
                   1e-12 * r->machine.flops);
    else
        bytes_add_text(out, " beside a GPU");
    bytes_addf(out, "; opened in %.0f ms; at most %.0f MB\n\n", 1e3 * r->open_seconds,
               1e-6 * (double)r->peak);
    bytes_add_text(out, "| work | behind | tok/s | spread | ms/token or step | of the roof |\n"
                        "|---|---|---|---|---|---|\n");
    for (int i = 0; i < r->rows; i++) {
        const struct bench_row *row = &r->row[i];
        bytes_addf(out, "| %s %lld", work_name(row), (long long)row->tokens);
        if (row->together > 1) bytes_addf(out, " x %lld", (long long)row->together);
        bytes_addf(out, " | %lld | %.2f | %.1f %% | %.3f | ", (long long)row->depth, row->median,
                   spread(row), 1e3 * (double)row->together / row->median);
        if (has_roofs(r))
            bytes_addf(out, "%.0f %% of %s |\n", roof_share(r, row),
                       row->decode ? "reading" : "multiplying");
        else
            bytes_add_text(out, "- |\n");
    }
    for (int i = 0; profile && i < r->rows; i++) print_ops(&r->row[i], out);
}

/* ---- csv, json ------------------------------------------------------------------------------- */

/* Nothing between its commas when it is not known. */
static void put_cell(const struct bench_report *r, struct bytes *out, int digits, double value)
{
    if (has_roofs(r)) bytes_addf(out, "%.*f", digits, value);
}

static void print_csv(const struct bench_report *r, struct bytes *out)
{
    bytes_add_text(out, "model,compute,mode,threads,processor,instructions,read_gb_s,tflop_s,"
                        "peak_mb,work,tokens,together,behind,tok_s,low,high,roof_percent\n");
    for (int i = 0; i < r->rows; i++) {
        const struct bench_row *row = &r->row[i];
        bytes_addf(out, "%s,%s,%s,%d,\"%s\",%s,", r->model, r->compute, r->mode, r->threads,
                   r->processor, r->instructions);
        put_cell(r, out, 1, 1e-9 * r->machine.read);
        bytes_add_text(out, ",");
        put_cell(r, out, 3, 1e-12 * r->machine.flops);
        bytes_addf(out, ",%.0f,%s,%lld,%lld,%lld,%.3f,%.3f,%.3f,", 1e-6 * (double)r->peak,
                   work_name(row), (long long)row->tokens, (long long)row->together,
                   (long long)row->depth, row->median, row->low, row->high);
        put_cell(r, out, 1, roof_share(r, row));
        bytes_add_text(out, "\n");
    }
}

static void put_text(struct bytes *out, const char *key, const char *text)
{
    bytes_addf(out, "\"%s\":", key);
    json_put_string(out, text, strlen(text));
    bytes_add_text(out, ",");
}

static void put_number(struct bytes *out, const char *key, double value)
{
    bytes_addf(out, "\"%s\":", key);
    json_put_double(out, value);
    bytes_add_text(out, ",");
}

static void put_row(const struct bench_report *r, const struct bench_row *row, bool profile,
                    struct bytes *out)
{
    bytes_addf(out, "{\"work\":\"%s\",\"tokens\":%lld,\"together\":%lld,\"behind\":%lld,",
               work_name(row), (long long)row->tokens, (long long)row->together,
               (long long)row->depth);
    put_number(out, "tok_s", row->median);
    put_number(out, "low", row->low);
    put_number(out, "high", row->high);
    if (profile) {
        bytes_add_text(out, "\"shares\":{");
        for (int i = 0; i < row->ops; i++) {
            bytes_addf(out, "%s\"%s\":", i ? "," : "", row->op[i].op);
            json_put_double(out, share(row->op[i].seconds, row->seconds) / 100);
        }
        bytes_add_text(out, "},");
    }
    bytes_add_text(out, "\"roof_share\":");
    if (has_roofs(r))
        json_put_double(out, roof_share(r, row) / 100);
    else
        bytes_add_text(out, "null");
    bytes_add_text(out, "}");
}

static void print_json(const struct bench_report *r, bool profile, struct bytes *out)
{
    bytes_add_text(out, "{");
    put_text(out, "model", r->model);
    put_text(out, "compute", r->compute);
    put_text(out, "mode", r->mode);
    put_text(out, "processor", r->processor);
    put_text(out, "instructions", r->instructions);
    if (has_roofs(r)) {
        put_number(out, "read_bytes_per_second", r->machine.read);
        put_number(out, "flops", r->machine.flops);
    }
    put_number(out, "open_seconds", r->open_seconds);
    bytes_addf(out, "\"threads\":%d,\"rounds\":%d,\"peak_bytes\":%lld,\"rows\":[", r->threads,
               r->repeats, (long long)r->peak);
    for (int i = 0; i < r->rows; i++) {
        if (i > 0) bytes_add_text(out, ",");
        put_row(r, &r->row[i], profile, out);
    }
    bytes_add_text(out, "]}\n");
}

void bench_print(const struct bench_report *report, enum bench_format format, bool profile,
                 struct bytes *out)
{
    switch (format) {
    case BENCH_MD: print_md(report, profile, out); return;
    case BENCH_CSV: print_csv(report, out); return;
    case BENCH_JSON: print_json(report, profile, out); return;
    }
}
