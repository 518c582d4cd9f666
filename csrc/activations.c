/* activations.c - every activation on one number, in double: what the vector text does not spell out itself.
 * Formulas: Keras `activations`, ONNX `LSTM` operator; all written so that no intermediate overflows to NaN. */
#include "lf_impl.h"

#include <math.h>

static double sigmoid(double x) {
    const double e = exp(-fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* log(1 + e^x); NaN is kept because the comparison is false for it */
static double softplus(double x) { return (x < 0 ? 0 : x) + log1p(exp(-fabs(x))); }

/* NaN passes: both comparisons are false */
static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

double lf_activation_value(lf_activation activation, double x) {
    const double alpha = activation.alpha, beta = activation.beta;
    switch (activation.kind) {
    case LF_LINEAR:
        return x;
    case LF_TANH:
        return tanh(x);
    case LF_SIGMOID:
        return sigmoid(x);
    case LF_RELU:
        return x < 0 ? 0 : x;
    case LF_HARD_SIGMOID:
        return clamp(alpha * x + beta, 0, 1);
    case LF_LEAKY_RELU:
        return x < 0 ? alpha * x : x;
    case LF_RELU6:
        return clamp(x, 0, 6);
    case LF_ELU:
        return x < 0 ? alpha * expm1(x) : x;
    case LF_SELU: /* Klambauer et al. 2017 */
        return 1.0507009873554805 * (x < 0 ? 1.6732632423543772 * expm1(x) : x);
    case LF_GELU: /* Hendrycks & Gimpel 2016; 0.70710678 = 1 / sqrt(2) */
        return 0.5 * x * (1 + erf(x * 0.70710678118654752));
    case LF_GELU_TANH: /* 0.79788456 = sqrt(2 / pi) */
        return 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case LF_SILU:
        return x * sigmoid(x);
    case LF_HARD_SILU:
        return x * clamp(x / 6 + 0.5, 0, 1);
    case LF_MISH:
        return x * tanh(softplus(x));
    case LF_SOFTPLUS:
        return softplus(x);
    case LF_SOFTSIGN:
        return x / (1 + fabs(x));
    case LF_EXPONENTIAL:
        return exp(x);
    case LF_AFFINE:
        return alpha * x + beta;
    case LF_SCALED_TANH:
        return alpha * tanh(beta * x);
    case LF_THRESHOLDED_RELU:
        return x <= alpha ? 0 : x;
    case LF_ACTIVATION_COUNT:
        break;
    }
    return x;
}
