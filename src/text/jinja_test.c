/* jinja_test.c: the tests of templates: what stands behind `is`. */
#include "text/jinja_run.h"
#include "text/show.h"

#define KIND(name) (1 << VALUE_##name)
enum {
    ALL = (1 << (VALUE_METHOD + 1)) - 1,
    NUMBERS = KIND(BOOL) | KIND(INT) | KIND(FLOAT) | KIND(BIG),
    SEQUENCES = KIND(UNDEFINED) | KIND(TEXT) | KIND(LIST) | KIND(TUPLE) | KIND(MAP),
    CALLABLES = KIND(MACRO) | KIND(FUNCTION) | KIND(METHOD) | KIND(UNDEFINED)
};

static enum gdn_status test_true(struct run *r, const struct value *self, const struct args *args,
                                 struct value *out)
{
    (void)r;
    (void)args;
    *out = value_bool(self->kind == VALUE_BOOL && self->as.is);
    return GDN_OK;
}

static enum gdn_status test_false(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    (void)r;
    (void)args;
    *out = value_bool(self->kind == VALUE_BOOL && !self->as.is);
    return GDN_OK;
}

static enum gdn_status compare(struct run *r, char op, const struct value *self,
                               const struct args *args, struct value *out)
{
    bool is;
    TRY(op_compare(r, op, self, &args->at[0], &is));
    *out = value_bool(is);
    return GDN_OK;
}

#define COMPARE_TEST(name, op)                                                            \
    static enum gdn_status test_##name(struct run *r, const struct value *self,           \
                                       const struct args *args, struct value *out)        \
    {                                                                                     \
        return compare(r, op, self, args, out);                                           \
    }
COMPARE_TEST(eq, '=')
COMPARE_TEST(ne, '!')
COMPARE_TEST(lt, '<')
COMPARE_TEST(gt, '>')
COMPARE_TEST(le, 'l')
COMPARE_TEST(ge, 'g')
COMPARE_TEST(in, 'i')

/* `is` of Python for the values that have only one of their kind. */
static enum gdn_status test_sameas(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    if (self->kind == args->at[0].kind) return compare(r, '=', self, args, out);
    *out = value_bool(false);
    return GDN_OK;
}

static enum gdn_status divisible(struct run *r, const struct value *self, int64_t by, int64_t rest,
                                 struct value *out)
{
    int64_t integer;
    if (!op_integer(self, &integer) || by == 0)
        return run_bad(r, "found a value of type %s, need an int and a divisor that is not 0",
                       value_type(self));
    *out = value_bool(by == -1 ? rest == 0 : integer % by == rest || integer % by == -rest);
    return GDN_OK;
}

static enum gdn_status test_divisibleby(struct run *r, const struct value *self,
                                        const struct args *args, struct value *out)
{
    int64_t by;
    TRY(arg_integer(r, args, 0, 0, &by));
    return divisible(r, self, by, 0, out);
}

static enum gdn_status test_even(struct run *r, const struct value *self, const struct args *args,
                                 struct value *out)
{
    (void)args;
    return divisible(r, self, 2, 0, out);
}

static enum gdn_status test_odd(struct run *r, const struct value *self, const struct args *args,
                                struct value *out)
{
    (void)args;
    return divisible(r, self, 2, 1, out);
}

static const struct function tests[] = {
    {"defined", "", ALL & ~KIND(UNDEFINED), NULL},
    {"undefined", "", KIND(UNDEFINED), NULL},
    {"none", "", KIND(NONE), NULL},
    {"boolean", "", KIND(BOOL), NULL},
    {"integer", "", KIND(INT) | KIND(BIG), NULL},
    {"float", "", KIND(FLOAT), NULL},
    {"number", "", NUMBERS, NULL},
    {"string", "", KIND(TEXT), NULL},
    {"mapping", "", KIND(MAP), NULL},
    {"sequence", "", SEQUENCES, NULL},
    {"iterable", "", SEQUENCES | KIND(LOOP), NULL},
    {"callable", "", CALLABLES, NULL},
    {"true", "", 0, test_true},
    {"false", "", 0, test_false},
    {"sameas", "other", 1, test_sameas},
    {"divisibleby", "num", 1, test_divisibleby},
    {"even", "", 0, test_even},
    {"odd", "", 0, test_odd},
    {"eq", "b", 1, test_eq},
    {"equalto", "b", 1, test_eq},
    {"ne", "b", 1, test_ne},
    {"lt", "b", 1, test_lt},
    {"lessthan", "b", 1, test_lt},
    {"gt", "b", 1, test_gt},
    {"greaterthan", "b", 1, test_gt},
    {"le", "b", 1, test_le},
    {"ge", "b", 1, test_ge},
    {"in", "seq", 1, test_in},
};

const struct function *test_find(struct text name)
{
    return function_find(tests, sizeof tests / sizeof *tests, name);
}

enum gdn_status test_call(struct run *r, const struct function *function, struct text name,
                          const struct value *self, const struct args *args, bool *is)
{
    char shown[48];
    struct value result;
    if (!function)
        return run_fail(r, GDN_ERR_UNSUPPORTED, "found the test \"%s\", which is not known",
                        show_bytes(shown, sizeof shown, name.at, name.len));
    if (!function->run) {
        *is = function->need >> self->kind & 1;
        return GDN_OK;
    }
    TRY(function_call(r, function, self, args, &result));
    *is = result.as.is;
    return GDN_OK;
}
