"""The Hessian of the empirical risk: bulk, edges, density and outliers in the limit."""
